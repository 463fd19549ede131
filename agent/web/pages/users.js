import { api, redraw, signed, use } from './agent.js'
import { h } from './dom.js'
import { endpointPath, mesh, meshPath, ztm } from './mesh.js'
import { answerOf, button, command, confirm, copy, dialog, line, save, state, table } from './parts.js'
import { picture } from './qr.js'
import { ago, date, number, t } from './words.js'

export function users() {
  const signer = mesh().signer
  return [
    h('div', { class: 'bar' }, h('span', { class: 'space' }), button(t('Invite'), () => invite(), { class: 'main' })),
    answerOf(use(meshPath('users')), rows => table([
      { head: t('User'), cell: u => h('a', { href: '#/endpoints?user=' + encodeURIComponent(u.name) }, u.name) },
      { head: t('Endpoints'), cell: u => (u.endpoints ?? []).join(', ') },
      { head: '', cell: u => u.name === 'root' ? null : button(t('Evict'), () => evict(u), { class: 'danger' }) },
    ], rows, { label: t('Users'), key: u => u.name })),
    line(command(ztm(), 'get', 'user')),
    signer ? null : h('p', { class: 'quiet' }, t('Only an endpoint that holds the key of the mesh can invite and evict.')),
    h('section', null, h('h2', null, t('Devices that wait for approval')), answerOf(use(endpointPath(mesh().agent.id, 'approvals')), approvals)),
    h('section', null, h('h2', null, t('Open invitations')), answerOf(use(endpointPath(mesh().agent.id, 'tokens')), tokens)),
    h('section', null, h('h2', null, t('Evicted')), answerOf(use(meshPath('evictions')), rows => table([
      { head: t('Who'), cell: e => e.user || `${e.name || e.id}${e.owner ? ` (${e.owner})` : ''}` },
      { head: t('When'), cell: e => date(e.at) },
      { head: t('By'), cell: e => e.byName || '–' },
      { head: t('Reason'), cell: e => e.reason || '–' },
    ], rows, { label: t('Evicted'), empty: t('Nobody was evicted.') }))),
  ]
}

function approvals(rows) {
  return table([
    { head: t('Name'), cell: a => a.name },
    { head: t('User'), cell: a => a.user },
    { head: t('ID'), cell: a => h('code', null, a.id) },
    { head: t('Since'), cell: a => ago(a.since) },
    { head: '', cell: a => a.answer ? a.answer : [button(t('Approve'), () => answer(a, false), { class: 'main' }), button(t('Deny'), () => answer(a, true))] },
  ], rows, { label: t('Devices that wait for approval'), key: a => a.id, empty: t('No device waits.') })
}

function answer(a, deny) {
  confirm(deny ? t('Deny') : t('Approve'), t('Compare the ID with what the device shows: {id}', { id: a.id }), command(ztm(), 'approve', a.name, deny && '--deny'),
    () => api('POST', endpointPath(mesh().agent.id, 'approvals'), { name: a.id, deny }).then(() => null))
}

function tokens(rows) {
  return table([
    { head: t('User'), cell: k => k.user },
    { head: t('Until'), cell: k => date(k.until) },
    { head: t('Left'), cell: k => k.elsewhere ? '–' : `${number(k.left)} / ${number(k.uses)}`, number: true },
    { head: t('Kind'), cell: k => [k.ephemeral && t('ephemeral'), k.approve && t('with approval')].filter(Boolean).join(', ') || '–' },
  ], rows, { label: t('Open invitations'), key: k => k.id, empty: t('No invitation is open.') })
}

function evict(u) {
  confirm(t('Evict {name}', u), t('User {name} and all of their endpoints ({endpoints}) lose all access at once, everywhere.', { name: u.name, endpoints: (u.endpoints ?? []).join(', ') }),
    command(ztm(), 'evict', u.name), () => api('DELETE', meshPath('users', u.name)).then(() => null))
}

// invite makes an invitation, and shows what to do with it.
export function invite() {
  dialog({
    title: t('Invite'),
    fields: [
      { name: 'user', label: t('User'), required: true, example: 'bob', hint: t('A person, or a group of machines. A device of your own: {user}', { user: mesh().agent.user }) },
      { name: 'expires', label: t('Good for'), kind: 'choice', value: '24h', options: [['1h', t('an hour')], ['24h', t('a day')], ['168h', t('a week')]] },
      { name: 'uses', label: t('How many devices'), kind: 'number', value: '1' },
      { name: 'approve', label: t('I approve each device'), kind: 'check' },
      { name: 'ephemeral', label: t('Devices go when they disconnect'), kind: 'check' },
    ],
    command: v => command(ztm(), 'invite', v.user || 'USER', v.expires !== '24h' && ['--expires', v.expires], v.uses !== '1' && ['--uses', v.uses], v.approve && '--approve', v.ephemeral && '--ephemeral', '--permit', (v.user || 'USER') + '.json'),
    submit: async v => {
      const warnings = []
      const hours = { '1h': 1, '24h': 24, '168h': 168 }[v.expires]
      const permit = await signed('POST', meshPath('permits', v.user), {
        expires: hours * 3600_000, uses: Number(v.uses), approve: v.approve, ephemeral: v.ephemeral,
      }, w => warnings.push(w))
      redraw()
      return invitation(v.user, permit, warnings)
    },
  })
}

// invitation shows a permit once. It is secret until it is used.
function invitation(user, text, warnings) {
  const qr = picture(text.trim(), t('The invitation as a QR code'))
  return h('div', null,
    warnings.map(w => h('p', null, state('busy', w))),
    h('p', null, t('Give this to {user}. It is secret until it is used.', { user })),
    h('textarea', { readonly: true, rows: 5, 'aria-label': t('Invitation'), value: text }),
    h('div', { class: 'bar' },
      h('button', { type: 'button', class: 'main', onclick: () => save(user + '.json', [text], 'application/json') }, t('Save as a file')),
      h('button', { type: 'button', onclick: e => copy(text, e.currentTarget) }, t('Copy'))),
    qr ? [qr, h('small', null, t('A camera reads the same text: paste it into the file on the other device.'))] : null,
    h('p', null, t('On the other device:')), line(command('ztm', 'join', mesh().name, '--as', 'NAME', '--permit', user + '.json')))
}
