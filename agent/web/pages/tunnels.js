import { api, data, open, redraw, use } from './agent.js'
import { h } from './dom.js'
import { faults, listeners, picture } from './ends.js'
import { appPath, chooser, endpoint, mesh, meshPath, nameOf, ztm } from './mesh.js'
import { answerOf, button, command, confirm, dialog, failure, line, list, some, state, table } from './parts.js'
import { key } from './overview.js'
import { number, size, t } from './words.js'

let asked = ''
const tests = {} // by tunnel: what a test has found

export function tunnels(query) {
  const wanted = query.get('open')
  if (wanted && asked !== wanted) {
    asked = wanted
    queueMicrotask(() => inbound(null, wanted))
  }
  return [
    h('div', { class: 'bar' }, chooser(), h('span', { class: 'space' }),
      button(t('Open an entrance'), () => inbound(null)), button(t('Offer a service'), () => outbound(null), { class: 'main' })),
    answerOf(use(meshPath('endpoints') + '?limit=1000'), all => picture(all, endpoint(), data(appPath('tunnel/tunnels')))),
    answerOf(use(appPath('tunnel/tunnels')), all => [
      h('h2', null, t('Entrances: ports of {name} that lead elsewhere', endpoint())),
      table([
        { head: t('Tunnel'), cell: key },
        { head: t('Listens on'), cell: i => listeners(i) },
        { head: t('Exits'), cell: i => (i.exits ?? []).map(nameOf).join(', ') || (i.exitsOf || i.exitsUser ? t('those of {user}', { user: i.exitsOf || i.exitsUser }) : t('all that offer it')) },
        { head: t('State'), cell: health },
        { head: t('Flows'), cell: i => `${number(i.stats.active)} / ${number(i.stats.flows)}`, number: true },
        { head: t('Up, down'), cell: i => `${size(i.stats.up)}, ${size(i.stats.down)}`, number: true },
        { head: '', cell: i => actions('inbound', i) },
      ], all.inbound, { label: t('Entrances'), key: i => 'in ' + key(i), empty: t('This endpoint has no entrance.') }),
      h('h2', null, t('Exits: services that {name} offers', endpoint())),
      table([
        { head: t('Tunnel'), cell: key },
        { head: t('Targets'), cell: o => o.targets.join(', ') },
        { head: t('For'), cell: o => [mesh().agent.user, ...o.users ?? []].join(', ') },
        { head: t('State'), cell: health },
        { head: t('Flows'), cell: o => `${number(o.stats.active)} / ${number(o.stats.flows)}`, number: true },
        { head: t('Up, down'), cell: o => `${size(o.stats.up)}, ${size(o.stats.down)}`, number: true },
        { head: t('Used by'), cell: o => (o.stats.peers ?? []).map(p => nameOf(p.id)).slice(0, 5).join(', ') },
        { head: '', cell: o => actions('outbound', o) },
      ], all.outbound, { label: t('Exits'), key: o => 'out ' + key(o), empty: t('This endpoint offers nothing.') }),
      line(command(ztm(true), 'get', 'tunnel')),
    ]),
  ]
}

function health(x) {
  if (x.off) return state('quiet', t('switched off'))
  const bad = faults(x)
  const shown = tests[key(x)]
  return [
    bad.length ? bad : x.stats.lastError ? state('busy', x.stats.lastError) : state('good', t('no fault')),
    shown ? h('div', { role: 'status' }, shown) : null,
  ]
}

function actions(kind, x) {
  return h('div', { class: 'actions' },
    kind === 'inbound' ? h('button', { type: 'button', onclick: () => probe(x) }, t('Test')) : null,
    button(t('Change'), () => kind === 'inbound' ? inbound(x) : outbound(x)),
    kind === 'outbound' && x.off ? button(t('Switch on'), () => switched(kind, x, t('Switch on {name}', { name: key(x) }), '', '--off=false', { off: false })) : null,
    kind === 'outbound' && !x.off ? button(t('Switch off'), () => switched(kind, x, t('Switch off {name}', { name: key(x) }), t('Its connections end at once. The settings stay.'), '--off', { off: true })) : null,
    kind === 'inbound' && x.listeners?.length ? button(t('Switch off'), () => switched(kind, x, t('Switch off {name}', { name: key(x) }), t('Its ports are closed. Connections that are open go on.'), '--listen', { listens: [] })) : null,
    button(t('Close'), () => confirm(t('Close {name}', { name: key(x) }), t('Its connections end at once.'), command(ztm(true), 'tunnel', 'close', kind, key(x)),
      () => api('DELETE', appPath(`tunnel/${kind}/${key(x)}`)).then(() => null)), { class: 'danger' }))
}

// spec is what can be set of a tunnel, of what its state shows.
function spec(x) {
  const { listeners, exitsUser, health, stats, ...rest } = x
  return rest
}

function switched(kind, x, title, text, option, change) {
  confirm(title, text, command(ztm(true), 'tunnel', 'set', kind, key(x), option),
    () => api('POST', appPath(`tunnel/${kind}/${key(x)}`), { ...spec(x), ...change }).then(() => null))
}

// probe asks each exit whether a flow would be allowed. No target is touched.
async function probe(x) {
  tests[key(x)] = t('Working…')
  redraw()
  try {
    const exits = x.exits?.length ? x.exits.map(id => ({ id, name: nameOf(id) }))
      : await api('GET', meshPath('endpoints') + '?' + new URLSearchParams({ offer: 'tunnel/' + key(x), online: 'true', limit: '20' }))
    const results = []
    for (const e of exits) {
      results.push(await open(mesh().name, e.id, 'tunnel/' + key(x), { probe: '1' })
        .then(f => { f.close(); return h('div', null, state('good', t('{name} lets us', e))) }, error => h('div', null, state('bad', `${e.name}: ${error.message}`))))
    }
    tests[key(x)] = results.length ? results : state('bad', t('No endpoint that is online offers it.'))
  } catch (e) {
    tests[key(x)] = failure(e)
  }
  redraw()
}

const protocols = [['tcp', 'TCP'], ['udp', 'UDP']]

function naming(x, name) {
  const [protocol, rest] = name?.includes('/') ? name.split('/') : ['tcp', name ?? '']
  return x ? [] : [
    { name: 'protocol', label: t('Protocol'), kind: 'choice', value: protocol, options: protocols },
    { name: 'name', label: t('Name of the tunnel'), required: true, value: rest, example: 'web', hint: t('The same at both ends.') },
  ]
}

function inbound(x, name) {
  dialog({
    title: x ? t('Change {name}', { name: key(x) }) : t('Open an entrance'), action: x ? t('Save') : t('Open'),
    fields: [...naming(x, name),
      { name: 'listens', label: t('Listen on'), required: true, value: (x?.listens ?? []).join(', '), example: '8080', hint: t('A port of 127.0.0.1, or ADDRESS:PORT, with commas between several.') },
      { name: 'exitsOf', label: t('Exits of user'), value: x?.exitsOf ?? '', hint: t('Empty: one’s own, or those of the one user who offers it.') },
      { name: 'maxConns', label: t('At most so many connections'), kind: 'number', value: x?.maxConns ?? '', hint: t('Empty: no limit.') }],
    command: v => command(ztm(true), 'tunnel', x ? 'set' : 'open', 'inbound', x ? key(x) : `${v.protocol}/${v.name || 'NAME'}`, '--listen', some(v.listens, 'PORT'), v.exitsOf && ['--exits-of', v.exitsOf], v.maxConns && ['--max-conns', v.maxConns]),
    submit: v => api('POST', appPath('tunnel/inbound/' + (x ? key(x) : `${v.protocol}/${encodeURIComponent(v.name)}`)), {
      ...x ? spec(x) : {}, listens: list(v.listens), exitsOf: v.exitsOf, maxConns: Number(v.maxConns) || 0,
    }).then(() => null),
  })
}

function outbound(x) {
  dialog({
    title: x ? t('Change {name}', { name: key(x) }) : t('Offer a service'), action: x ? t('Save') : t('Offer'),
    fields: [...naming(x),
      { name: 'targets', label: t('Connect to'), required: true, value: (x?.targets ?? []).join(', '), example: '127.0.0.1:8080', hint: t('HOST:PORT, with commas between several.') },
      { name: 'users', label: t('Also for users'), value: (x?.users ?? []).join(', '), hint: t('Nobody but {user} gets in otherwise.', { user: mesh().agent.user }) },
      { name: 'maxConns', label: t('At most so many connections'), kind: 'number', value: x?.maxConns ?? '', hint: t('Empty: no limit.') }],
    command: v => command(ztm(true), 'tunnel', x ? 'set' : 'open', 'outbound', x ? key(x) : `${v.protocol}/${v.name || 'NAME'}`, '--targets', some(v.targets, 'HOST:PORT'), v.users && ['--users', list(v.users)], v.maxConns && ['--max-conns', v.maxConns]),
    submit: v => api('POST', appPath('tunnel/outbound/' + (x ? key(x) : `${v.protocol}/${encodeURIComponent(v.name)}`)), {
      ...x ? spec(x) : {}, targets: list(v.targets), users: list(v.users), maxConns: Number(v.maxConns) || 0,
    }).then(() => null),
  })
}
