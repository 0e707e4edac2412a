// ipywidgets gives a slider a label that only who sees it can connect with it.

function nameParts(slider: Element): void {
  const name = slider.querySelector('.widget-label')?.textContent;
  for (const part of slider.querySelectorAll('[role=slider], .widget-readout')) {
    if (name && !part.hasAttribute('aria-label')) {
      part.setAttribute('aria-label', name);
      part.setAttribute('role', part.getAttribute('role') ?? 'textbox');
    }
  }
}

/** Give the handles and values of sliders their names, as they come into the page. */
export function nameSliders(): void {
  const watch = new MutationObserver(changes => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (node instanceof Element) {
          const around = node.closest('.widget-slider');
          [...(around ? [around] : []), ...node.querySelectorAll('.widget-slider')].forEach(nameParts);
        }
      }
    }
  });
  watch.observe(document.body, { childList: true, subtree: true });
}
