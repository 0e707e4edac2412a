// The side panel: the notebook at hand with its findings, and the jobs and runs of its workspace.
import { NotebookPanel } from '@jupyterlab/notebook';
import { LabIcon } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';
import { badge, button, duration, make, moment } from './elements';
import { cellOf, Finding, Found, Looked } from './findings';
import { said, Server } from './server';

interface Job {
  job: string;
  notebook: string;
  next: string | null;
  needs: string[];
  paused: boolean;
  last_state: string | null;
  last_ended_at: string | null;
  open: number;
  reason: string; // why it did not succeed the last time
}

interface Run {
  run_id: string;
  status: string;
  notebook: string;
  started_at: string | null;
  duration_s: number | null;
  job: string | null;
}

export interface Actions {
  run(path: string, job?: string): void;
  schedule(path: string): void;
  open(run: string): void;
  reveal(panel: NotebookPanel, found: Found): void;
  local(path: string): string;
  path(): string; // a place in the workspace that is looked at
}

const IDLE = 15_000; // milliseconds from one look to the next
const BUSY = 3_000; // while something runs
const LONGEST = 120_000; // after failures

export class JobsPanel extends Widget {
  private readonly parts = {
    notebook: make('section', { 'aria-label': 'Notebook' }),
    jobs: make('section', { 'aria-label': 'Jobs' }),
    runs: make('section', { 'aria-label': 'Runs' })
  };
  private readonly drawn = new Map<HTMLElement, string>();
  private timer = 0;
  private failures = 0;
  private asking = false;
  private aim = '';
  private again = false;

  constructor(
    private readonly server: Server,
    private readonly actions: Actions,
    icon: LabIcon
  ) {
    super({ node: make('div', { role: 'region', 'aria-label': 'Jobs and runs', tabindex: '-1' }) });
    this.id = 'mltoolkit-jobs-and-runs';
    this.addClass('mlt-panel');
    this.title.icon = icon;
    this.title.caption = 'Jobs and runs (mltoolkit)';
    const again = button('Refresh', 'refresh', () => void this.refresh(), { class: 'mlt-button' });
    this.node.append(make('header', {}, make('h2', {}, 'Jobs and runs'), again), this.parts.notebook, this.parts.jobs, this.parts.runs);
    this.draw(this.parts.jobs, 'Jobs', [make('p', { class: 'mlt-muted' }, 'Loading…')], '');
    this.draw(this.parts.runs, 'Runs', [make('p', { class: 'mlt-muted' }, 'Loading…')], '');
    document.addEventListener('visibilitychange', this.woken);
  }

  override dispose(): void {
    window.clearTimeout(this.timer);
    document.removeEventListener('visibilitychange', this.woken);
    super.dispose();
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    void this.refresh();
  }

  protected override onActivateRequest(msg: Message): void {
    super.onActivateRequest(msg);
    const aim = this.aim ? `[data-cell="${CSS.escape(this.aim)}"]` : 'section button';
    this.aim = '';
    (this.node.querySelector<HTMLElement>(aim) ?? this.node).focus();
  }

  private readonly woken = () => {
    if (!document.hidden) {
      void this.refresh();
    }
  };

  /** Look anew, unless nobody sees it. */
  async refresh(): Promise<void> {
    window.clearTimeout(this.timer);
    if (this.isDisposed || !this.isVisible || document.hidden) {
      return;
    }
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    const path = this.actions.path();
    const parts = await Promise.all([this.showJobs(path), this.showRuns(path)]);
    this.asking = false;
    this.failures = parts.includes('failed') ? this.failures + 1 : 0;
    if (this.again) {
      this.again = false;
      return this.refresh();
    }
    if (!this.server.absent) {
      const pause = parts.includes('busy') ? BUSY : IDLE * 2 ** this.failures;
      this.timer = window.setTimeout(() => void this.refresh(), Math.min(pause, LONGEST));
    }
  }

  /** Show the notebook at hand, and what was found in it. */
  showNotebook(panel: NotebookPanel | null, looked: Looked | undefined): void {
    if (panel === null) {
      this.draw(this.parts.notebook, 'Notebook', [make('p', { class: 'mlt-muted' }, 'No notebook is open.')], '');
      return;
    }
    const path = this.actions.local(panel.context.path);
    const buttons = make(
      'div',
      { class: 'mlt-row' },
      button('Run as job…', 'run', () => this.actions.run(path), { class: 'mlt-button' }),
      button('Schedule…', 'schedule', () => this.actions.schedule(path), { class: 'mlt-button' })
    );
    const content: Node[] = [make('p', { class: 'mlt-path' }, path), buttons];
    if (looked?.problem) {
      content.push(wrong(looked.problem));
    } else if (looked) {
      const found = [...looked.found].sort((one, other) => cellOf(panel, one.id) - cellOf(panel, other.id));
      content.push(make('h4', {}, `Findings (${found.length})`));
      const items = found.map((each, at) => make('li', {}, this.findingButton(panel, each, at)));
      content.push(items.length > 0 ? make('ul', { class: 'mlt-findings' }, ...items) : make('p', { class: 'mlt-muted' }, '✓ check finds nothing, as it was saved.'));
    }
    this.draw(this.parts.notebook, 'Notebook', content, JSON.stringify([path, looked, panel.content.widgets.map(each => each.model.id)]));
  }

  /** When it is activated next, put the focus on the first finding of this cell. */
  aimAt(id: string): void {
    this.aim = id;
  }

  private findingButton(panel: NotebookPanel, found: Found, at: number): HTMLElement {
    const { finding, id } = found;
    const cell = cellOf(panel, id);
    const place = cell < 0 ? 'notebook' : `cell ${cell + 1}${finding.line ? `, line ${finding.line}` : ''}`;
    const content = [
      make('span', { class: 'mlt-line' }, badge(finding.severity), ` ${finding.code} · ${place}`),
      make('span', {}, finding.message),
      finding.fix && !finding.fix.startsWith('https://') ? make('span', { class: 'mlt-muted' }, finding.fix) : null
    ];
    const made = make('button', { type: 'button', class: 'mlt-item', 'data-key': `finding-${at}`, 'data-cell': id ?? '' });
    made.addEventListener('click', () => this.actions.reveal(panel, found));
    made.append(...content.filter(each => each !== null));
    return made;
  }

  private async showJobs(path: string): Promise<'busy' | 'idle' | 'failed'> {
    try {
      const told = await this.server.look<{ jobs: Job[]; findings: Finding[] }>('jobs', { path });
      const content: Node[] = told.jobs.length > 0 ? [make('ul', {}, ...told.jobs.map(each => this.jobItem(each)))] : [];
      if (told.jobs.length === 0) {
        content.push(make('p', { class: 'mlt-muted' }, 'No jobs yet. “Run as job…” or “Schedule…” on a notebook makes one.'));
      }
      content.push(...told.findings.map(each => make('p', {}, badge(each.severity), ` jobs.yaml${each.line ? `, line ${each.line}` : ''}: ${each.message}`)));
      this.draw(this.parts.jobs, 'Jobs', content, JSON.stringify(told));
      return told.jobs.some(each => each.open > 0) ? 'busy' : 'idle';
    } catch (error) {
      this.failed(this.parts.jobs, 'Jobs', 'The jobs cannot be shown.', error);
      return 'failed';
    }
  }

  private jobItem(job: Job): HTMLElement {
    const state = job.open > 0 ? 'in progress' : job.last_state ?? 'never run';
    const facts = [
      job.next && !job.paused ? `next ${moment(job.next)}` : null,
      job.last_ended_at ? `last ended ${moment(job.last_ended_at)}` : null,
      job.needs.length > 0 ? `needs ${job.needs.join(', ')}` : null
    ];
    return make(
      'li',
      { 'data-job': job.job },
      make(
        'div',
        { class: 'mlt-line' },
        make('strong', {}, job.job),
        badge(state),
        job.paused ? badge('paused') : null,
        button('Run…', `job-${job.job}`, () => this.actions.run(job.notebook, job.job), { class: 'mlt-button', 'aria-label': `Run ${job.job}…` })
      ),
      make('div', { class: 'mlt-muted' }, facts.filter(Boolean).join(' · ') || 'no schedule'),
      job.reason && job.open === 0 ? make('div', { class: 'mlt-said' }, job.reason) : null
    );
  }

  private async showRuns(path: string): Promise<'busy' | 'idle' | 'failed'> {
    try {
      const told = await this.server.look<Run[]>('runs', { path, limit: '20' });
      const content = told.length > 0 ? make('ul', {}, ...told.map(each => this.runItem(each))) : make('p', { class: 'mlt-muted' }, 'No runs yet.');
      this.draw(this.parts.runs, 'Runs', [content], JSON.stringify(told));
      return told.some(each => each.status === 'running') ? 'busy' : 'idle';
    } catch (error) {
      this.failed(this.parts.runs, 'Runs', 'The runs cannot be shown.', error);
      return 'failed';
    }
  }

  private runItem(run: Run): HTMLElement {
    const facts = [
      run.started_at ? moment(run.started_at) : null,
      run.duration_s === null ? null : duration(run.duration_s),
      run.job ? `job ${run.job}` : null
    ];
    const made = make(
      'button',
      { type: 'button', class: 'mlt-item', title: 'Open the page of this run', 'data-key': `run-${run.run_id}`, 'data-run': run.run_id },
      make('span', { class: 'mlt-line' }, badge(run.status), ` ${run.notebook}`),
      make('span', { class: 'mlt-muted' }, facts.filter(Boolean).join(' · '))
    );
    made.addEventListener('click', () => this.actions.open(run.run_id));
    return make('li', {}, made);
  }

  private failed(part: HTMLElement, title: string, what: string, error: unknown): void {
    this.server.complain(said(error));
    this.draw(part, title, [wrong(what), make('p', { class: 'mlt-said' }, said(error))], `failed: ${said(error)}`);
  }

  /** Draw a part anew if it says something else than before; the focus stays where it was. */
  private draw(part: HTMLElement, title: string, content: Node[], key: string): void {
    if (key && this.drawn.get(part) === key) {
      return;
    }
    this.drawn.set(part, key);
    const focused = part.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset.key : undefined;
    part.replaceChildren(make('h3', {}, title), ...content);
    if (focused) {
      part.querySelector<HTMLElement>(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    }
  }
}

function wrong(text: string): HTMLElement {
  return make('p', { class: 'mlt-problem', role: 'status' }, `✗ ${text}`);
}
