// Programs of others that an endpoint runs, confined. A page of theirs opens at an origin of its own,
// and never within this one.

import { api, use } from './agent.js'
import { h } from './dom.js'
import { appPath, chooser, endpoint, endpointPath, self, ztm } from './mesh.js'
import { answerOf, button, command, confirm, dialog, line, list, some, state, table } from './parts.js'
import { number, size, t } from './words.js'

export function apps() {
  return [
    h('div', { class: 'bar' }, chooser()),
    answerOf(use(appPath('app/apps')), rows => table([
      { head: t('App'), cell: a => id(a) },
      { head: t('Version'), cell: a => `${a.manifest.version} (${number(a.manifest.sequence)})` },
      { head: t('State'), cell: health },
      { head: t('For'), cell: a => [self().user, ...a.users ?? []].join(', ') },
      { head: t('May'), cell: a => rights(a.granted ?? {}) },
      { head: t('Flows'), cell: a => number(a.status.flows), number: true },
      { head: t('Memory'), cell: a => a.status.memory ? size(a.status.memory) : '–', number: true },
      { head: '', cell: actions },
    ], rows, { label: t('Apps'), key: id, empty: t('No app of others is installed at this endpoint.') })),
    line(command(ztm(true), 'get', 'app')),
    h('p', { class: 'quiet' }, t('To install one:')), line(command(ztm(true), 'app', 'install', 'PROVIDER/NAME')),
  ]
}

function id(a) { return `${a.manifest.provider}/${a.manifest.name}` }

function health(a) {
  const words = { stopped: t('starts when somebody asks for it'), running: t('running'), waiting: t('starts again in a moment'), failed: t('failed too often') }
  return [
    a.disabled ? state('quiet', t('switched off')) : state({ running: 'good', waiting: 'busy', failed: 'bad' }[a.status.state] ?? 'quiet', words[a.status.state] ?? a.status.state),
    [a.problem, a.status.state !== 'running' && a.status.error].filter(Boolean).map(p => h('div', null, state('bad', p))),
    a.unconfined ? h('div', null, state('busy', t('nothing confines it'))) : null,
  ]
}

function rights(r) {
  return [r.net && t('reach the network'), r.exec && t('run programs'), (r.apps ?? []).length > 0 && t('reach {apps}', { apps: r.apps.join(', ') }), r.autostart && t('start by itself')].filter(Boolean).join(', ') || t('keep data of its own')
}

function actions(a) {
  const name = id(a), started = a.status.state === 'running'
  if (a.trial) return t('tried out')
  const verb = (title, word, path) => button(title, () => confirm(`${title}: ${name}`, '', command(ztm(true), 'app', word, name), () => api('POST', appPath(`app/apps/${name}/${path}`), {}).then(() => null)))
  const turn = (title, word, disabled) => button(title, () => confirm(`${title}: ${name}`, '', command(ztm(true), 'app', word, name), () => change(name, { disabled })))
  return h('div', { class: 'actions' },
    a.manifest.page && !a.disabled ? button(t('Open its page'), () => openPage(a)) : null,
    a.disabled ? turn(t('Switch on'), 'enable', false) : [started ? verb(t('Stop'), 'stop', 'stop') : verb(t('Start'), 'start', 'start'), turn(t('Switch off'), 'disable', true)],
    button(t('Users'), () => grant(a)),
    button(t('Remove'), () => confirm(t('Remove {name}', { name }), t('The program goes. What it has written stays.'), command(ztm(true), 'app', 'erase', name), () => api('DELETE', appPath('app/apps/' + name)).then(() => null)), { class: 'danger' }))
}

function change(name, body) { return api('PATCH', appPath('app/apps/' + name), body).then(() => null) }

function grant(a) {
  const before = a.users ?? [], name = id(a)
  const less = v => before.filter(u => !list(v.users).includes(u)), more = v => list(v.users).filter(u => !before.includes(u))
  dialog({
    title: t('Who may use {name}', { name }), action: t('Save'), fields: [{ name: 'users', label: t('Users'), value: before.join(', '), hint: t('Users, or group:NAME.') }],
    command: v => [more(v).length || !less(v).length ? command(ztm(true), 'app', 'grant', name, more(v).length ? more(v) : some('', 'USER')) : '', less(v).length ? command(ztm(true), 'app', 'revoke', name, less(v)) : ''].filter(Boolean).join(' && '),
    submit: v => change(name, { grant: more(v), revoke: less(v) }),
  })
}

// openPage has this machine's agent make an origin for the page, which is good for one browser.
function openPage(a) {
  const name = id(a)
  dialog({
    title: t('Open its page'), text: t('{name} shows it, at an address of its own. It gets nothing of this console.', { name }), action: t('Prepare it'),
    command: () => command(ztm(true), 'app', 'open', name),
    submit: async () => {
      const { url } = await api('POST', endpointPath(self().id) + '/apps/app/open', { app: name, page: a.manifest.page, endpoint: endpoint().id })
      return h('p', null, h('a', { class: 'button main', href: url, target: '_blank', rel: 'noopener noreferrer' }, t('Open {name}', { name })))
    },
  })
}
