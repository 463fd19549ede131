import { api, redraw, use } from './agent.js'
import { h } from './dom.js'
import { appPath, chooser, endpoint, ztm } from './mesh.js'
import { answerOf, button, command, confirm, dialog, failure, line, list, some, state, table } from './parts.js'
import { milliseconds, number, t } from './words.js'

const asked = { target: '', answer: null, error: null } // where a connection would go

export function proxy() {
  return [
    h('div', { class: 'bar' }, chooser()),
    answerOf(use(appPath('proxy/config')), c => [
      (c.warnings ?? []).map(w => h('p', null, state('busy', w))),
      h('div', { class: 'cards' },
        part(t('Entrance'), t('Browsers and programs of this machine use it.'), t('Listens on'), c.listens, () => listens(c)),
        part(t('Exit'), t('What others may reach through {name}.', endpoint()), t('Targets'), c.targets, () => targets(c)),
        part(t('Trust'), t('Users whose exits are used like one’s own.'), t('Users'), c.trust, () => trust(c))),
      h('h2', null, t('Routes')),
      table([
        { head: t('Pattern'), cell: r => h('code', null, r.pattern) },
        { head: t('By'), cell: r => r.exit ? r.name || r.exit : t('directly') },
        { head: '', cell: r => button(t('Remove'), () => change(t('Remove'), { removeRoutes: [r.pattern] }, ['--remove-via', r.pattern], r.pattern)) },
      ], c.routes ?? [], { label: t('Routes'), empty: t('Everything goes to whichever exit serves it, otherwise: {default}.', { default: c.default }) }),
      button(t('Add a route'), route),
    ]),
    question(),
    h('h2', null, t('Rules of this exit, in order')),
    answerOf(use(appPath('proxy/rules')), rules => [
      table([
        { head: '#', cell: r => number(r.at), number: true },
        { head: t('Users'), cell: r => (r.users ?? []).join(', ') },
        { head: t('Targets'), cell: r => (r.targets ?? []).join(', ') },
        { head: t('Decision'), cell: r => r.action === 'allow' ? state('good', t('allow')) : state('bad', t('deny')) },
        { head: '', cell: r => button(t('Remove'), () => confirm(t('Remove rule {n}', { n: r.at }), '', command(ztm(true), 'proxy', 'rules', '--index', String(r.at), '--remove'), () => api('DELETE', appPath('proxy/rules/' + r.at)).then(() => null)), { class: 'danger' }) },
      ], rules.map((r, at) => ({ ...r, at })), { label: t('Rules of this exit, in order'), empty: t('No rule: one’s own user may, others may not.') }),
      button(t('Add a rule'), rule),
    ]),
    h('h2', null, t('Exits that are known')),
    answerOf(use(appPath('proxy/status')), s => [
      h('p', null, t('Connections: {active} now, {all} since the start', { active: number(s.active), all: number(s.connections) })),
      table([
        { head: t('Exit'), cell: e => e.name },
        { head: t('User'), cell: e => e.user },
        { head: t('State'), cell: e => e.error ? state('bad', e.error) : state(e.trusted ? 'good' : 'quiet', e.trusted ? t('used') : t('only where a route names it')) },
        { head: t('Targets'), cell: e => (e.targets ?? []).join(', ') },
        { head: t('Round trip'), cell: e => milliseconds(e.rtt), number: true },
      ], s.exits ?? [], { label: t('Exits that are known'), key: e => e.id, empty: t('No endpoint is an exit for this one.') }),
    ]),
    line(command(ztm(true), 'proxy', 'status')),
  ]
}

function part(title, text, name, values, edit) {
  return h('div', { class: 'card' }, h('h2', null, title), h('p', { class: 'quiet' }, text), h('div', null, name, ': ', (values ?? []).join(', ') || '–'), button(t('Change'), edit))
}

// question asks where a connection would go. None is opened.
function question() {
  const w = asked.answer
  return h('section', null, h('h2', null, t('Where would a connection go?')),
    h('form', { class: 'bar', onsubmit: ask },
      h('label', { class: 'grow' }, t('Host'), ' ', h('input', { name: 'target', required: true, placeholder: 'svc-a.svc:8080', spellcheck: 'false', autocapitalize: 'off', oninput: e => { asked.target = e.target.value.trim(); redraw() } })),
      h('button', { type: 'submit' }, t('Ask'))),
    asked.error ? failure(asked.error) : null,
    h('div', { 'aria-live': 'polite' }, !w ? null : w.steps.length ? h('ol', { class: 'hops' }, w.steps.map(step)) : state('bad', t('Nowhere: {reason}', w))),
    line(command(ztm(true), 'proxy', 'where', asked.target || 'HOST')))
}

function step(s) {
  return h('li', null, s.exits.length ? s.exits.map(e => h('div', null, e.error ? state('bad', `${e.name}: ${e.error}`) : state('good', e.user ? `${e.name} (${e.user})` : e.name), ' ', e.rtt ? milliseconds(e.rtt) : null))
    : state('good', t('from {name} itself', endpoint())), h('small', null, reason(s)))
}

function reason(s) {
  switch (s.by) {
    case 'route': return t('by the route {pattern}', s)
    case 'target': return t('as the most specific target')
    case 'search': return t('as a short name there')
    case 'catch-all': return t('as an exit for everything')
    default: return t('because no exit serves it')
  }
}

async function ask(e) {
  e.preventDefault()
  Object.assign(asked, { answer: null, error: null })
  try {
    asked.answer = await api('GET', appPath('proxy/where') + '?' + new URLSearchParams({ target: asked.target }))
  } catch (error) {
    asked.error = error
  }
  redraw()
}

function patch(body) { return api('PATCH', appPath('proxy/config'), body).then(() => null) }

function change(title, body, words, text) {
  confirm(title, text, command(ztm(true), 'proxy', 'config', words), () => patch(body))
}

function listens(c) {
  dialog({
    title: t('Entrance'), action: t('Save'), fields: [{ name: 'listens', label: t('Listen on'), value: c.listens.join(', '), example: '1080', hint: t('Empty: the proxy is off.') }],
    command: v => command(ztm(true), 'proxy', 'config', '--set-listen', list(v.listens)), submit: v => patch({ setListens: list(v.listens) }),
  })
}

function difference(before, now) {
  return [now.filter(x => !before.includes(x)), before.filter(x => !now.includes(x))]
}

function targets(c) {
  dialog({
    title: t('Exit'), action: t('Save'),
    fields: [{ name: 'targets', label: t('Targets'), value: c.targets.join(', '), example: '10.43.0.0/16, *.corp.example.com', hint: t('Names, *.SUFFIX, addresses, networks, or * for all. Empty: no exit.') }],
    command: v => {
      const [more, less] = difference(c.targets, list(v.targets))
      return command(ztm(true), 'proxy', 'config', more.length && ['--add-target', more], less.length && ['--remove-target', less])
    },
    submit: v => {
      const [addTargets, removeTargets] = difference(c.targets, list(v.targets))
      return patch({ addTargets, removeTargets })
    },
  })
}

function trust(c) {
  dialog({
    title: t('Trust'), action: t('Save'), fields: [{ name: 'users', label: t('Users'), value: c.trust.join(', '), hint: t('An exit sees what passes through it.') }],
    command: v => {
      const [more, less] = difference(c.trust, list(v.users))
      return command(ztm(true), 'proxy', 'config', more.length && ['--add-trust', more], less.length && ['--remove-trust', less])
    },
    submit: v => {
      const [more, less] = difference(c.trust, list(v.users))
      return patch({ trust: more, distrust: less })
    },
  })
}

function route() {
  dialog({
    title: t('Add a route'),
    fields: [{ name: 'pattern', label: t('Pattern'), required: true, example: '*.corp.example.com' }, { name: 'exit', label: t('Exit'), hint: t('The name of an endpoint. Empty: directly, through no exit.') }],
    command: v => command(ztm(true), 'proxy', 'config', v.exit ? ['--add-via', `${v.pattern || 'PATTERN'}=${v.exit}`] : ['--add-direct', v.pattern || 'PATTERN']),
    submit: v => patch(v.exit ? { via: { [v.pattern]: v.exit } } : { direct: [v.pattern] }),
  })
}

function rule() {
  dialog({
    title: t('Add a rule'),
    fields: [{ name: 'users', label: t('Users'), required: true, hint: t('* is every user of the mesh.') }, { name: 'targets', label: t('Targets'), required: true, example: '*.corp.example.com:443' },
      { name: 'action', label: t('Decision'), kind: 'choice', value: 'allow', options: [['allow', t('allow')], ['deny', t('deny')]] }],
    command: v => command(ztm(true), 'proxy', 'rules', '--users', some(v.users, 'USER'), '--targets', some(v.targets, 'PATTERN'), '--action', v.action),
    submit: v => api('POST', appPath('proxy/rules'), { users: list(v.users), targets: list(v.targets), action: v.action }).then(() => null),
  })
}
