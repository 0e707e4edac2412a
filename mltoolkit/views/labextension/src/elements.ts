// Elements of a page, and how a state looks: a sign, a word, and only then a colour.

type Attributes = Record<string, string | boolean | undefined | ((event: Event) => void)>;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string | null)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') {
      element.addEventListener(name, value);
    } else if (value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children.filter(each => each !== null));
  return element;
}

export function button(text: string, key: string, act: () => void, attributes: Attributes = {}): HTMLButtonElement {
  return make('button', { type: 'button', 'data-key': key, click: act, ...attributes }, text);
}

const SIGNS: Record<string, [string, string]> = {
  succeeded: ['✓', 'fine'],
  running: ['▶', ''],
  'in progress': ['▶', ''],
  queued: ['…', ''],
  waiting: ['…', ''],
  'never run': ['–', ''],
  paused: ['‖', 'caution'],
  approval: ['?', 'caution'],
  cancelled: ['■', 'caution'],
  ended_early: ['■', 'caution'],
  warning: ['!', 'caution']
};

export function badge(state: string): HTMLElement {
  const [sign, kind] = SIGNS[state] ?? ['✗', 'wrong'];
  const mark = make('span', { 'aria-hidden': 'true' }, sign);
  return make('span', { class: `mlt-badge mlt-${kind || 'plain'}` }, mark, ` ${state.replace(/_/g, ' ')}`);
}

/** A moment as the machine of the reader has it. */
export function moment(iso: string): string {
  const at = new Date(iso);
  const day = at.toDateString() === new Date().toDateString() ? {} : ({ day: 'numeric', month: 'short' } as const);
  return at.toLocaleString(undefined, { ...day, hour: '2-digit', minute: '2-digit' });
}

export function duration(seconds: number): string {
  if (seconds < 60) {
    return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  }
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
