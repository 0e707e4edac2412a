// `Run as job…` and `Schedule…`: a form of the notebook's contract, held against the rules by the server.
import { Dialog } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';
import { make } from './elements';
import { Refused, said, Server } from './server';

interface Parameter {
  name: string;
  wanted: string;
  help: string;
  required: boolean;
  secret: boolean;
  options: string[];
  value: string | null; // null: known only to the notebook
  source: string;
}

interface Told {
  fields: Parameter[];
  note: string;
  jobs: { job: string; schedule: string | null }[];
  name: string;
}

interface Made {
  job: string;
  file: string;
  schedule: string | null;
}

interface Due {
  next: string[];
  remarks: string[];
  problems: Record<string, string>;
}

interface Shape {
  key: string; // what the server calls it
  label: string;
  hint?: string;
  value?: string;
  placeholder?: string;
  required?: boolean;
  options?: [value: string, text: string][];
  suggestions?: string[];
}

let count = 0;

/** One field: its label, what it takes, and what is wrong with it. */
class Field {
  readonly node: HTMLElement;
  readonly input: HTMLInputElement | HTMLSelectElement;
  private readonly initial: string;
  private readonly problem: HTMLElement;

  constructor(readonly shape: Shape) {
    const id = `mlt-field-${(count += 1)}`;
    const described = { id, name: shape.key, 'aria-describedby': `${id}-hint ${id}-problem`, 'aria-required': String(!!shape.required) };
    const parts: Node[] = [];
    if (shape.options) {
      const options = shape.options.map(([value, text]) => make('option', { value }, text));
      this.input = make('select', { ...described, class: 'jp-mod-styled' }, ...options);
    } else {
      const list = shape.suggestions && `${id}-list`;
      const look = { class: 'jp-mod-styled', placeholder: shape.placeholder ?? '', autocomplete: 'off', spellcheck: 'false' };
      this.input = make('input', { ...described, ...look, list, type: 'text' });
      if (shape.suggestions) {
        parts.push(make('datalist', { id: `${id}-list` }, ...shape.suggestions.map(value => make('option', { value }))));
      }
    }
    this.input.value = this.initial = shape.value ?? '';
    this.problem = make('div', { id: `${id}-problem`, class: 'mlt-problem', role: 'alert' });
    const label = make('label', { for: id }, shape.label, shape.required ? make('span', { class: 'mlt-muted' }, ' (required)') : null);
    const hint = make('div', { id: `${id}-hint`, class: 'mlt-hint' }, shape.hint ?? '');
    this.node = make('div', { class: 'mlt-field' }, label, this.input, ...parts, hint, this.problem);
  }

  get value(): string {
    return this.input.value.trim();
  }

  get touched(): boolean {
    return this.input.value !== this.initial;
  }

  tell(problem: string): void {
    this.problem.textContent = problem ? `✗ ${problem}` : '';
    this.input.setAttribute('aria-invalid', String(problem !== ''));
  }
}

function field(each: Parameter): Field {
  const key = `parameters.${each.name}`;
  const empty = each.required ? 'choose…' : `(${each.source || 'as in the notebook'})`;
  const listed = each.options.map(option => [option, option] as [string, string]);
  return new Field({
    key,
    label: each.name,
    hint: [listed.length > 0 ? '' : each.wanted, each.help].filter(Boolean).join(' · '),
    value: each.value ?? '',
    placeholder: each.secret ? 'env:VARIABLE or file:PATH' : each.value === null && !each.required ? empty : '',
    required: each.required,
    options: listed.length > 0 ? (each.value === null ? [['', empty], ...listed] : listed) : undefined
  });
}

/** The body of a dialog: fields, and what the server says of them. */
class Form extends Widget {
  readonly fields: Field[] = [];
  private readonly alert = make('div', { class: 'mlt-alert', role: 'alert' });

  constructor() {
    super({ node: make('form', { class: 'mlt-form', novalidate: true, submit: event => event.preventDefault() }) });
    this.node.append(this.alert);
  }

  add(shape: Shape | Field, into: HTMLElement = this.node): Field {
    const made = shape instanceof Field ? shape : new Field(shape);
    this.fields.push(made);
    into.append(made.node);
    return made;
  }

  parameters(told: Told): HTMLElement {
    const group = make('fieldset', {}, make('legend', {}, 'Parameters'));
    told.fields.forEach(each => this.add(field(each), group));
    if (told.note) {
      group.append(make('p', { class: 'mlt-muted' }, told.note));
    }
    this.node.append(group);
    return group;
  }

  /** What somebody typed, by the names of the parameters; what is untouched is left to the notebook. */
  texts(told: Told): Record<string, string> {
    const wanted = new Map(told.fields.map(each => [`parameters.${each.name}`, each]));
    const texts: Record<string, string> = {};
    for (const each of this.fields) {
      const parameter = wanted.get(each.shape.key);
      if (parameter && each.touched && (each.value || parameter.wanted.startsWith('str'))) {
        texts[parameter.name] = each.input.value;
      }
    }
    return texts;
  }

  /** Show what was refused beside what it is about; the rest above all. */
  refuse(error: unknown): void {
    const problems = error instanceof Refused ? { ...error.problems } : {};
    let first: Field | undefined;
    for (const each of this.fields) {
      const problem = problems[each.shape.key] ?? '';
      delete problems[each.shape.key];
      each.tell(problem);
      first ??= problem ? each : undefined;
    }
    const rest = first ? Object.values(problems).join('\n') : said(error);
    this.alert.textContent = rest ? `✗ ${rest}` : '';
    first?.input.focus();
  }

  clear(): void {
    this.fields.forEach(each => each.tell(''));
    this.alert.textContent = '';
  }
}

/** A dialog that stays until what it is for is done, or somebody cancels it. */
class Asking extends Dialog<unknown> {
  private busy = false;

  constructor(
    title: string,
    private readonly form: Form,
    accept: string,
    private readonly act: () => Promise<void>
  ) {
    super({
      title,
      body: form,
      buttons: [Dialog.cancelButton(), Dialog.okButton({ label: accept })],
      defaultButton: 1,
      focusNodeSelector: '.mlt-field:not([hidden]) :is(input, select)'
    });
    this.addClass('mlt-dialog');
    this.node.setAttribute('aria-label', title);
  }

  override resolve(index?: number): void {
    if (index === 0) {
      super.resolve(0);
    } else if (!this.busy) {
      this.busy = true;
      this.form.node.setAttribute('aria-busy', 'true');
      this.form.clear();
      this.act()
        .then(() => super.resolve(index))
        .catch(error => this.form.refuse(error))
        .finally(() => {
          this.busy = false;
          this.form.node.removeAttribute('aria-busy');
        });
    }
  }
}

async function ask(title: string, form: Form, accept: string, act: () => Promise<void>): Promise<boolean> {
  return (await new Asking(title, form, accept, act).launch()).button.accept;
}

function jobName(told: Told): Shape {
  return { key: 'name', label: 'Name of the job', value: told.name, hint: 'letters, digits, - and _; it is what jobs.yaml calls it' };
}

const MOMENTS = ['@hourly', '@daily', '@weekly', '@monthly', '30 2 * * *', '0 7 * * 1-5', '30 2 1 * *'];

function zones(): string[] {
  return ['UTC', ...Intl.supportedValuesOf('timeZone').filter(each => each !== 'UTC')];
}

/** Ask when a notebook is to run, and have it written into jobs.yaml. */
export async function schedule(server: Server, path: string): Promise<Made | null> {
  const told = await server.look<Told>('form', { path });
  const form = new Form();
  const name = form.add(jobName(told));
  const cron = form.add({
    key: 'cron',
    label: 'When',
    required: true,
    placeholder: '30 2 1 * *',
    suggestions: MOMENTS,
    hint: 'minute hour day month weekday, or @daily and its like'
  });
  const zone = form.add({
    key: 'timezone',
    label: 'Time zone',
    value: Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC',
    suggestions: zones()
  });
  const next = make('p', { class: 'mlt-next', 'aria-live': 'polite' });
  form.node.append(next);
  const missed = form.add({
    key: 'catch_up',
    label: 'If times were missed',
    value: 'latest',
    options: [
      ['latest', 'run the latest of them'],
      ['all', 'run all of them'],
      ['skip', 'run none of them']
    ]
  });
  form.parameters(told);
  form.node.append(
    make('p', { class: 'mlt-muted' }, 'A value may be a template such as {logical_date-1mo:%m}. Jobs start when they are due as long as `mltoolkit serve` runs.')
  );

  let timer = 0;
  const preview = async () => {
    const asked = { cron: cron.value, timezone: zone.value };
    if (!asked.cron) {
      next.textContent = '';
      return;
    }
    const due = await server.look<Due>('due', asked).catch(() => null); // whatever it is, it is said when the form is sent
    const times = (due?.next ?? []).map(each => each.slice(0, 16).replace('T', ' '));
    next.textContent = times.length > 0 ? [`Next: ${times.join(', ')}`, ...due!.remarks].join('\n') : '';
    cron.tell(due?.problems.cron ?? '');
    zone.tell(due?.problems.timezone ?? '');
  };
  for (const each of [cron, zone]) {
    each.input.addEventListener('input', () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(() => void preview(), 400);
    });
  }

  let made: Made | null = null;
  await ask(`Schedule ${path.split('/').pop()}`, form, 'Schedule', async () => {
    window.clearTimeout(timer);
    const times = { cron: cron.value, timezone: zone.value, ...(missed.touched ? { catch_up: missed.value } : {}) };
    made = await server.tell<Made>('schedule', { path, name: name.value, job: { schedule: times }, texts: form.texts(told) });
  });
  return made;
}

/** Ask with what a notebook is to run, and have it run as a job, which is written into jobs.yaml if it is a new one. */
export async function run(server: Server, path: string, job?: string): Promise<string | null> {
  const told = await server.look<Told>('form', { path });
  const form = new Form();
  const NEW = '';
  const choice = form.add({
    key: 'job',
    label: 'Job',
    value: job ?? told.jobs[0]?.job ?? NEW,
    options: [...told.jobs.map(each => [each.job, each.schedule ? `${each.job} (${each.schedule})` : each.job] as [string, string]), [NEW, 'a new job']],
    hint: 'a job of this notebook runs with the parameters that jobs.yaml gives it'
  });
  choice.node.hidden = told.jobs.length === 0;
  const name = form.add(jobName(told));
  const parameters = form.parameters(told);
  const date = form.add({
    key: 'date',
    label: 'Logical date',
    placeholder: 'now',
    hint: 'the time it is run for, such as 2013-02-01 or 2013-02-01T02:30'
  });
  const choose = () => {
    name.node.hidden = parameters.hidden = choice.value !== NEW;
  };
  choice.input.addEventListener('change', choose);
  choose();

  let key: string | null = null;
  await ask(`Run ${path.split('/').pop()} as a job`, form, 'Run', async () => {
    if (choice.value === NEW) {
      const made = await server.tell<Made>('schedule', { path, name: name.value, job: {}, texts: form.texts(told) });
      choice.input.append(make('option', { value: made.job }, made.job));
      choice.input.value = made.job;
      choice.node.hidden = false;
      choose();
    }
    const asked = { path, job: choice.value, ...(date.value ? { date: date.value } : {}) };
    key = (await server.tell<{ keys: string[] }>('run', asked)).keys[0];
  });
  return key;
}
