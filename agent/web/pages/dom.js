// What a page shows is a tree of plain values. draw makes the document equal to it and touches only
// what differs, so that a field keeps its cursor and a list its place while things change.
//
//	h('button', { class: 'main', onclick: f }, t('Open'))  ->  draw(element, [tree])
//
// Text is only ever text: nothing here, or anywhere in these modules, turns it into markup.

const SVG = 'http://www.w3.org/2000/svg'

// Properties that are no attributes, because they change by themselves.
const live = new Set(['value', 'checked', 'disabled', 'selected', 'indeterminate', 'srcObject'])

// h is an element: a tag, its properties and its children. false, null and undefined are no child.
export function h(tag, props, ...children) {
  return { tag, props: props || {}, children: children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false) }
}

// plain shows what cannot be seen as a box: control characters, what turns the direction of text
// around, what is in no alphabet. Names and messages of others go through it as all text does.
export function plain(s) {
  return String(s).replace(/[^\P{C}\n\t]/gu, '□')
}

// draw makes the children of an element those of the tree.
export function draw(parent, children) {
  const svg = parent.namespaceURI === SVG && parent.localName !== 'foreignObject'
  const keyed = new Map(), loose = []
  for (const node of parent.childNodes) {
    if (node.tree?.props?.key !== undefined) keyed.set(node.tree.props.key, node)
    else loose.push(node)
  }
  let place = parent.firstChild
  for (const child of children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false)) {
    const old = take(child, keyed, loose)
    const node = old ?? make(child, svg)
    update(node, child)
    if (node === place) place = place.nextSibling
    else parent.insertBefore(node, place)
  }
  for (const node of [...keyed.values(), ...loose]) node.remove()
}

// take finds the node that stood for a child, and takes it out of the lists.
function take(child, keyed, loose) {
  const key = child.props?.key
  if (key !== undefined) {
    const node = keyed.get(key)
    if (!node || node.tree.tag !== child.tag) return undefined
    keyed.delete(key)
    return node
  }
  const i = loose.findIndex(n => child.tag ? n.tree?.tag === child.tag : n.nodeType === Node.TEXT_NODE)
  return i < 0 ? undefined : loose.splice(i, 1)[0]
}

function make(child, svg) {
  if (!child.tag) return document.createTextNode('')
  const node = svg || child.tag === 'svg' ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag)
  child.props.ref?.(node)
  return node
}

function update(node, child) {
  if (!child.tag) {
    const text = plain(child)
    if (node.data !== text) node.data = text
    return
  }
  const before = node.tree?.props ?? {}
  node.tree = child
  for (const name of Object.keys(before)) if (!(name in child.props)) set(node, name, undefined, before[name])
  if (!child.props.own) draw(node, child.children) // an element that somebody else fills is left alone
  for (const [name, value] of Object.entries(child.props)) set(node, name, value, before[name]) // after the options of a select
}

function set(node, name, value, before) {
  if (name === 'key' || name === 'ref' || name === 'own' || value === before) return
  if (name.startsWith('on')) node[name] = value ?? null
  else if (name === 'style') for (const [k, v] of Object.entries(value ?? {})) node.style.setProperty(k, v)
  else if (live.has(name)) node[name] = value ?? (typeof node[name] === 'boolean' ? false : '')
  else if (value === undefined || value === null || value === false) node.removeAttribute(name)
  else node.setAttribute(name, value === true ? '' : plain(value))
}
