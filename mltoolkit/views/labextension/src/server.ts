// What is asked of mltoolkit's part of JupyterLab's server, and what it says if it refuses.
import { Notification } from '@jupyterlab/apputils';
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export class Refused extends Error {
  constructor(
    message: string,
    readonly problems: Record<string, string> = {} // by the name of a field
  ) {
    super(message);
  }
}

const ABSENT =
  "JupyterLab's server has no mltoolkit. Install mltoolkit[lab] in the environment that the server runs in, and start it again.";

export class Server {
  absent = false;
  private complained = false;

  constructor(private readonly settings: ServerConnection.ISettings) {}

  look<T>(what: string, parts: Record<string, string>): Promise<T> {
    return this.ask<T>(what + URLExt.objectToQueryString(parts), {});
  }

  tell<T>(what: string, body: object): Promise<T> {
    return this.ask<T>(what, { method: 'POST', body: JSON.stringify(body) });
  }

  /** Say what went wrong with something that nobody asked for: once, then no more. */
  complain(message: string): void {
    if (!this.complained) {
      this.complained = true;
      Notification.warning(`mltoolkit: ${message}`, { autoClose: 15000 });
    }
  }

  private async ask<T>(what: string, init: RequestInit): Promise<T> {
    if (this.absent) {
      throw new Refused(ABSENT);
    }
    let response: Response;
    try {
      const address = URLExt.join(this.settings.baseUrl, 'mltoolkit', what);
      response = await ServerConnection.makeRequest(address, init, this.settings);
    } catch {
      throw new Refused("JupyterLab's server does not answer.");
    }
    if (response.status === 404) {
      this.absent = true;
      throw new Refused(ABSENT);
    }
    const told = await response.json().catch(() => null);
    if (!response.ok || told === null) {
      throw new Refused(told?.message || `JupyterLab's server answered with ${response.status}.`, told?.problems);
    }
    return told as T;
  }
}

export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
