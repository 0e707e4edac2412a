// mltoolkit in JupyterLab: what the menus call, the side panel, and the findings beside cells.
import { ILabShell, ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, Notification, showErrorMessage } from '@jupyterlab/apputils';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { LabIcon } from '@jupyterlab/ui-components';
import { Widget } from '@lumino/widgets';
import { make } from './elements';
import { cellOf, Findings, Found } from './findings';
import { run, schedule } from './form';
import { JobsPanel } from './panel';
import { said, Server } from './server';
import { nameSliders } from './sliders';

const icon = new LabIcon({
  name: 'mltoolkit:jobs',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M3 4h12v2H3zm0 5h9v2H3zm0 5h7v2H3zm10-3 9 5.5-9 5.5z"/></svg>'
});

function activate(
  app: JupyterFrontEnd,
  tracker: INotebookTracker,
  palette: ICommandPalette | null,
  browsers: IFileBrowserFactory | null,
  restorer: ILayoutRestorer | null,
  labShell: ILabShell | null
): void {
  nameSliders();
  const { commands, shell, serviceManager } = app;
  const server = new Server(serviceManager.serverSettings);
  const local = (path: string) => serviceManager.contents.localPath(path);

  const selected = (): string | undefined => {
    const items = [...(browsers?.tracker.currentWidget?.selectedItems() ?? [])];
    return items.length === 1 && items[0].type === 'notebook' ? items[0].path : undefined;
  };
  const current = (): NotebookPanel | null => (tracker.currentWidget === shell.currentWidget ? tracker.currentWidget : null);
  const target = (args: { from?: unknown; path?: unknown }): string | undefined =>
    args.path ? String(args.path) : args.from === 'browser' ? selected() : current()?.context.path ?? selected();

  const saved = async (path: string): Promise<string> => {
    const open = tracker.find(each => each.context.path === path);
    if (open?.context.model.dirty) {
      await open.context.save(); // what is run is what somebody sees
    }
    return local(path);
  };
  const attempt = async (what: string, act: () => Promise<void>) => {
    try {
      await act();
    } catch (error) {
      await showErrorMessage(what, said(error));
    }
  };
  const showPanel = () => shell.activateById(panel.id);

  const actions = {
    local,
    path: () => local(tracker.currentWidget?.context.path ?? browsers?.tracker.currentWidget?.model.path ?? ''),
    run: (path: string, job?: string) =>
      void attempt('Run as job', async () => {
        const key = await run(server, await saved(path), job);
        if (key) {
          Notification.info(`${key} is asked for.`, { autoClose: 5000 });
          showPanel();
          await panel.refresh();
        }
      }),
    schedule: (path: string) =>
      void attempt('Schedule', async () => {
        const made = await schedule(server, await saved(path));
        if (made) {
          const open = { label: 'Open jobs.yaml', callback: () => void commands.execute('docmanager:open', { path: made.file }) };
          Notification.success(`${made.job} (${made.schedule}) is written into ${made.file}.`, { autoClose: 10000, actions: [open] });
          await panel.refresh();
        }
      }),
    open: (id: string) =>
      void attempt('The page of the run', async () => {
        const known = `mltoolkit-run-${id}`;
        if (![...shell.widgets('main')].some(each => each.id === known)) {
          const page = await server.look<{ title: string; html: string }>('page', { path: actions.path(), run: id });
          const frame = make('iframe', { class: 'mlt-page', sandbox: '', title: page.title, srcdoc: page.html });
          const shown = new MainAreaWidget({ content: new Widget({ node: make('div', {}, frame) }) });
          shown.id = known;
          shown.title.label = page.title;
          shown.title.icon = icon;
          shown.title.closable = true;
          shell.add(shown, 'main');
        }
        shell.activateById(known);
      }),
    reveal: (notebook: NotebookPanel, found: Found) => {
      const cell = cellOf(notebook, found.id);
      shell.activateById(notebook.id);
      if (cell >= 0) {
        notebook.content.activeCellIndex = cell;
        void notebook.content.scrollToItem(cell);
      }
    }
  };

  const panel = new JobsPanel(server, actions, icon);
  const show = () => panel.showNotebook(tracker.currentWidget, tracker.currentWidget ? findings.of(tracker.currentWidget) : undefined);
  const findings = new Findings(
    tracker,
    server,
    local,
    notebook => notebook === tracker.currentWidget && show(),
    (_, id) => {
      panel.aimAt(id);
      showPanel();
    }
  );
  show();
  tracker.currentChanged.connect(() => {
    show();
    void panel.refresh();
  });
  shell.add(panel, 'right', { rank: 700, type: 'mltoolkit' });
  restorer?.add(panel, panel.id);

  const add = (id: string, label: string, execute: (args: object) => void, isEnabled?: (args: object) => boolean) => {
    const describedBy = { args: { type: 'object', properties: { from: { type: 'string' }, path: { type: 'string' } } } };
    commands.addCommand(id, { label, execute, isEnabled, describedBy });
    palette?.addItem({ command: id, category: 'mltoolkit' });
  };
  add('mltoolkit:run-as-job', 'Run as job…', args => actions.run(target(args)!), args => target(args) !== undefined);
  add('mltoolkit:schedule', 'Schedule…', args => actions.schedule(target(args)!), args => target(args) !== undefined);
  add('mltoolkit:jobs-and-runs', 'Jobs and runs', showPanel);
  add(
    'mltoolkit:check',
    'Check this notebook',
    () =>
      void attempt('Check', async () => {
        const notebook = current()!;
        const dirty = notebook.context.model.dirty;
        await saved(notebook.context.path); // which looks, too
        await (dirty ? null : findings.look(notebook));
        showPanel();
      }),
    () => current() !== null
  );
  labShell?.currentChanged.connect(() => ['mltoolkit:run-as-job', 'mltoolkit:schedule', 'mltoolkit:check'].forEach(id => commands.notifyCommandChanged(id)));
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'mltoolkit:plugin',
  description: 'Notebooks as jobs, the jobs and runs of a workspace, and findings beside cells.',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, IFileBrowserFactory, ILayoutRestorer, ILabShell],
  activate
};

export default plugin;
