/**
 * Describe elements as plain objects, and change the document until it matches.
 *
 * Text from agents and clients becomes text nodes only; nothing here parses HTML.  An element
 * that stays keeps its focus, its scroll position and what was typed into it.
 */

const SVG = "http://www.w3.org/2000/svg";

/** Attributes that are properties: what a person changes differs from what a script has set. */
const PROPERTIES = new Set(["value", "checked", "open", "disabled", "hidden"]);

/**
 * Describe an element.
 *
 * `props` are attributes, except: `key` identifies the element among its siblings; `onclick` and
 * the like are listeners; `style` is an object; `mount(element)` is called once the element is in
 * the document, and may return what is called when it leaves.  An element with `mount` and no
 * children owns its content.
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flatten(children, []) };
}

function flatten(children, flat) {
  for (const child of children) {
    if (Array.isArray(child)) flatten(child, flat);
    else if (child !== null && child !== undefined && child !== false && child !== true) {
      flat.push(typeof child === "object" ? child : { text: String(child) });
    }
  }
  return flat;
}

/** Make the content of `container` match `nodes`. */
export function render(container, ...nodes) {
  const mounted = [];
  const next = flatten(nodes, []);
  reconcile(container, container.vnodes ?? [], next, mounted, false);
  container.vnodes = next;
  for (const run of mounted) run();
}

function identify(node, index) {
  if (node.text !== undefined) return `text ${index}`;
  return node.props.key === undefined ? `${node.tag} ${index}` : `${node.tag}=${node.props.key}`;
}

function reconcile(parent, old, next, mounted, inSvg) {
  const known = new Map();
  old.forEach((node, index) => known.set(identify(node, index), node));
  const kept = next.map((node, index) => {
    const name = identify(node, index);
    const match = known.get(name);
    known.delete(name);
    return match;
  });
  for (const node of known.values()) remove(node);
  let place = parent.firstChild;
  next.forEach((node, index) => {
    const match = kept[index];
    if (match === undefined) {
      parent.insertBefore(create(node, mounted, inSvg), place);
      return;
    }
    update(match, node, mounted, inSvg);
    if (node.element === place) place = place.nextSibling;
    else parent.insertBefore(node.element, place);
  });
}

function create(node, mounted, inSvg) {
  if (node.text !== undefined) {
    node.element = document.createTextNode(node.text);
    return node.element;
  }
  const svg = inSvg || node.tag === "svg";
  const element = svg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  node.element = element;
  // The options of a select come before its value.
  reconcile(element, [], node.children, mounted, svg);
  for (const [name, value] of Object.entries(node.props)) set(element, name, undefined, value);
  const { mount } = node.props;
  if (mount !== undefined) mounted.push(() => (node.unmount = mount(element)));
  return element;
}

function update(old, node, mounted, inSvg) {
  const element = (node.element = old.element);
  if (node.text !== undefined) {
    if (node.text !== old.text) element.data = node.text;
    return;
  }
  node.unmount = old.unmount;
  if (node.props.mount === undefined || node.children.length > 0) {
    reconcile(element, old.children, node.children, mounted, inSvg || node.tag === "svg");
  }
  for (const name of Object.keys(old.props)) {
    if (!(name in node.props)) set(element, name, old.props[name], undefined);
  }
  for (const [name, value] of Object.entries(node.props)) {
    if (value !== old.props[name]) set(element, name, old.props[name], value);
  }
}

function remove(node) {
  unmount(node);
  node.element.remove();
}

function unmount(node) {
  if (typeof node.unmount === "function") node.unmount();
  for (const child of node.children ?? []) unmount(child);
}

function set(element, name, old, value) {
  if (name === "key" || name === "mount") return;
  if (name.startsWith("on")) element[name] = value ?? null;
  else if (name === "style") setStyle(element, old ?? {}, value ?? {});
  else if (PROPERTIES.has(name)) element[name] = value ?? (name === "value" ? "" : false);
  else if (value === undefined || value === null || value === false) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : String(value));
}

/** Set single properties, which the Content Security Policy allows, unlike a style attribute. */
function setStyle(element, old, style) {
  for (const name of Object.keys(old)) if (!(name in style)) element.style.removeProperty(name);
  for (const [name, value] of Object.entries(style)) {
    if (old[name] !== value) element.style.setProperty(name, value);
  }
}
