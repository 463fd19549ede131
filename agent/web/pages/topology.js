// The mesh as a picture: hubs in the middle, users as sectors, endpoints around them by their IDs.
// The same mesh gives the same picture. Nothing moves by itself.

import { redraw } from './agent.js'
import { h } from './dom.js'
import { t } from './words.js'

const FOLD = 60

const narrow = matchMedia('(max-width: 640px)')
narrow.addEventListener('change', redraw)

// area is what the picture is drawn in. It is not shrunk for a narrow screen: nobody could read it.
function area() { return narrow.matches ? { width: 360, height: 400 } : { width: 760, height: 460 } }

// nodes are what stands around the hubs: endpoints, or users if there are too many of those.
export function nodes(endpoints) {
  const sorted = [...endpoints].sort((a, b) => a.user === b.user ? compare(a.id, b.id) : compare(a.user, b.user))
  if (sorted.length <= FOLD) return sorted.map(e => ({ ...e, label: e.name }))
  const users = new Map()
  for (const e of sorted) users.set(e.user, [...users.get(e.user) ?? [], e])
  return [...users].map(([user, list]) => ({
    id: 'user:' + user, user, folded: list.length, online: list.some(e => e.online), local: list.some(e => e.local), label: `${user} (${list.length})`,
  }))
}

function compare(a, b) { return a < b ? -1 : a > b ? 1 : 0 }

// positions gives each node its place: a share of the circle for each user, with a gap between two,
// and a second ring where one is too narrow.
export function positions(list, { width, height } = area()) {
  const users = new Set(list.map(n => n.user)).size
  const gap = users > 1 ? 0.6 : 0
  const steps = list.length + users * gap
  let at = 0, before = list[0]?.user
  return list.map((n, i) => {
    if (n.user !== before) at += gap
    before = n.user
    const angle = 2 * Math.PI * at / steps - Math.PI / 2
    at++
    const far = list.length > 20 && i % 2 ? 0.74 : 1
    return { ...n, x: width / 2 + Math.cos(angle) * (width / 2 - 90) * far, y: height / 2 + Math.sin(angle) * (height / 2 - 45) * far, angle }
  })
}

// picture draws the mesh. active is, by ID, how many flows there are with a peer. A bow leads from
// this endpoint to each with which it has a session: whole if it is direct, dashed through a hub.
export function picture(hubs, endpoints, active, open) {
  const { width, height } = area(), x = width / 2, y = height / 2
  const list = positions(nodes(endpoints))
  const me = list.find(n => n.local)
  const up = hubs.filter(x => x.status === 'attached' || x.status === 'standby').length
  return h('svg', {
    class: 'topology', viewBox: `0 0 ${width} ${height}`, role: 'group',
    'aria-label': t('Picture of the mesh; the table below has the same facts'), onkeydown: move,
  },
    list.map(n => h('line', {
      key: 'line' + n.id, x1: x, y1: y, x2: n.x.toFixed(1), y2: n.y.toFixed(1),
      class: n.online ? 'way' : 'way off', 'stroke-width': thickness(active[n.id]),
    })),
    me ? list.filter(n => n !== me && (active[n.id] || n.sessions || n.route?.direct)).map(n => h('path', {
      key: 'chord' + n.id, class: n.route?.direct ? 'chord' : 'chord relayed', 'stroke-width': thickness(active[n.id]),
      d: `M${me.x.toFixed(1)} ${me.y.toFixed(1)} Q${x} ${y + 40} ${n.x.toFixed(1)} ${n.y.toFixed(1)}`,
    })) : null,
    h('g', { key: 'hub', class: up ? 'hub' : 'hub off' },
      h('rect', { x: x - 44, y: y - 20, width: 88, height: 40, rx: 8 }),
      h('text', { x, y: y + 5 }, hubs.length > 1 ? t('{up} of {all} hubs', { up, all: hubs.length }) : t('hub'))),
    list.map(n => h('g', {
      key: 'node' + n.id, class: 'node' + (n.online ? '' : ' off') + (n.local ? ' local' : ''), tabindex: '0', role: 'link',
      'aria-label': `${n.label}, ${n.user}, ${n.online ? t('online') : t('offline')}` + (n.route?.direct ? ', ' + t('direct ({kind})', { kind: n.route.direct }) : ''),
      onclick: () => open(n), onkeydown: e => { if (e.key === 'Enter') open(n) },
    },
      h('circle', { cx: n.x.toFixed(1), cy: n.y.toFixed(1), r: n.local ? 11 : 8 }),
      h('text', { x: n.x.toFixed(1), y: (n.y + (Math.sin(n.angle) < -0.2 ? -16 : 26)).toFixed(1) }, short(n.label)))))
}

function thickness(flows) { return flows ? Math.min(2 + Math.log2(flows + 1), 6) : 1.5 }

function short(s) { return [...s].length > 16 ? [...s].slice(0, 15).join('') + '…' : s }

// move goes from node to node by the arrows.
function move(e) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key]
  if (!step) return
  e.preventDefault()
  const all = [...e.currentTarget.querySelectorAll('.node')]
  const i = all.indexOf(document.activeElement)
  all[(i + step + all.length) % all.length]?.focus()
}
