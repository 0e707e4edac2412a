// What `mltoolkit check` finds in a notebook, beside its cells: looked for when it is opened and when it is saved.
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { make } from './elements';
import { said, Server } from './server';

export interface Finding {
  code: string;
  message: string;
  cell: number | null; // from 0
  line: number | null; // from 1
  fix: string;
  severity: string;
}

export interface Found {
  finding: Finding;
  id: string | null; // of the cell, which may move
}

export interface Looked {
  found: Found[];
  problem: string; // why nothing could be looked at
}

export function cellOf(panel: NotebookPanel, id: string | null): number {
  return id === null ? -1 : panel.content.widgets.findIndex(each => each.model.id === id);
}

export class Findings {
  private readonly looked = new WeakMap<NotebookPanel, Looked>();

  constructor(
    tracker: INotebookTracker,
    private readonly server: Server,
    private readonly local: (path: string) => string,
    private readonly changed: (panel: NotebookPanel) => void,
    private readonly opened: (panel: NotebookPanel, id: string) => void
  ) {
    tracker.forEach(panel => this.follow(panel));
    tracker.widgetAdded.connect((_, panel) => this.follow(panel));
  }

  of(panel: NotebookPanel): Looked | undefined {
    return this.looked.get(panel);
  }

  async look(panel: NotebookPanel): Promise<void> {
    const cells = panel.content.widgets.map(each => each.model.id);
    let now: Looked;
    try {
      const findings = await this.server.look<Finding[]>('check', { path: this.local(panel.context.path) });
      now = { found: findings.map(finding => ({ finding, id: finding.cell === null ? null : cells[finding.cell] ?? null })), problem: '' };
    } catch (error) {
      this.server.complain(said(error));
      now = { found: [], problem: said(error) };
    }
    if (!panel.isDisposed) {
      this.looked.set(panel, now);
      this.draw(panel);
      this.changed(panel);
    }
  }

  private follow(panel: NotebookPanel): void {
    panel.context.saveState.connect((_, state) => {
      if (state === 'completed') {
        void this.look(panel);
      }
    });
    void panel.context.ready.then(() => {
      panel.content.model?.cells.changed.connect(() => requestAnimationFrame(() => this.draw(panel)));
      return this.look(panel);
    });
  }

  private draw(panel: NotebookPanel): void {
    const known = this.looked.get(panel)?.found ?? [];
    for (const cell of panel.isDisposed ? [] : panel.content.widgets) {
      cell.node.querySelector(':scope > .mlt-mark')?.remove();
      const here = known.filter(each => each.id === cell.model.id).map(each => each.finding);
      if (here.length > 0) {
        cell.node.append(this.mark(panel, cell.model.id, here));
      }
    }
  }

  private mark(panel: NotebookPanel, id: string, here: Finding[]): HTMLElement {
    const grave = here.some(each => each.severity === 'error');
    const lines = here.map(each => `${each.severity} ${each.code}: ${each.message}`);
    const text = `${here.length === 1 ? '1 finding' : `${here.length} findings`} in this cell\n${lines.join('\n')}`;
    return make(
      'button',
      {
        type: 'button',
        class: `mlt-mark mlt-${grave ? 'wrong' : 'caution'}`,
        title: text,
        'aria-label': text,
        'data-lm-suppress-shortcuts': 'true', // or Enter would edit the cell
        click: () => this.opened(panel, id)
      },
      `${grave ? '✗' : '!'}${here.length > 1 ? here.length : ''}`
    );
  }
}
