// Published files: what the chosen endpoint may read, what of it is there, and what is being fetched.
// The list is that of the endpoint; the other endpoints are asked when somebody wants to know.

import { api, open, redraw, use } from './agent.js'
import { h } from './dom.js'
import { appPath, chooser, endpoint, mesh, ztm } from './mesh.js'
import { answerOf, button, command, confirm, dialog, failure, line, list, save, some, state, table } from './parts.js'
import { ago, date, number, size, t } from './words.js'

const MOST = 200 // rows
const CHUNK = 64 << 10
const at = { path: '', asking: false, error: null, asked: '', busy: null }

export function cloud() {
  const files = use(appPath('cloud/files') + '?' + new URLSearchParams({ path: at.path || '/', offline: '1' }))
  if (at.asked !== endpoint().id) {
    at.asked = endpoint().id
    queueMicrotask(look)
  }
  return [
    h('form', { class: 'bar', onsubmit: e => { e.preventDefault(); at.path = e.target.elements.path.value.trim(); redraw() } },
      chooser(),
      h('label', { class: 'grow' }, t('Path'), ' ', h('input', { name: 'path', value: at.path, placeholder: '/users/' + mesh().agent.user, spellcheck: 'false' })),
      h('button', { type: 'submit' }, t('Go')), button(at.asking ? t('Working…') : t('Ask the other endpoints'), look, { looks: true }),
      button(t('Publish a file'), publishNew, { class: 'main' })),
    at.error ? failure(at.error) : null,
    at.busy ? h('p', { role: 'status' }, at.busy) : null,
    answerOf(files, rows => [
      table([
        { head: t('Path'), cell: f => f.directory ? f.path + '/' : f.path },
        { head: t('State'), cell: f => state(marks[f.state] ?? 'busy', f.error || word(f.state)) },
        { head: t('Size'), cell: f => size(f.size), number: true },
        { head: t('Date'), cell: f => date(f.time) },
        { head: t('Readers'), cell: f => f.shared || '–' },
        { head: t('Sources'), cell: f => number(f.sources), number: true },
        { head: '', cell: actions },
      ], rows.slice(0, MOST), { label: t('Published files'), key: f => f.path, empty: t('Nothing is published that this endpoint may read.') }),
      rows.length > MOST ? h('p', { class: 'quiet' }, t('{n} more: name a path.', { n: number(rows.length - MOST) })) : null,
    ]),
    line(command(ztm(true), 'cloud', 'ls', at.path)),
    h('h2', null, t('Downloads')), answerOf(use(appPath('cloud/downloads')), downloads),
    h('h2', null, t('Mirrors')), answerOf(use(appPath('cloud/mirrors')), mirrors),
    button(t('Keep a directory in step'), mirrorNew), line(command(ztm(true), 'cloud', 'mirror')),
    h('h2', null, t('What is not done')), answerOf(use(appPath('cloud/status')), s => [
      table([
        { head: t('Path'), cell: p => p.path },
        { head: t('Reason'), cell: p => state('bad', p.reason) },
        { head: t('Since'), cell: p => ago(p.since) },
        { head: t('What helps'), cell: p => line(p.help) },
      ], s.problems ?? [], { label: t('What is not done'), key: p => p.path, empty: t('Everything is done.') }),
      h('p', { class: 'quiet' }, t('The files of this endpoint are in {dir}.', s)),
    ]),
    line(command(ztm(true), 'cloud', 'status')),
  ]
}

const marks = { synced: 'good', missing: 'quiet', new: 'quiet', damaged: 'bad', conflict: 'bad', unreadable: 'bad', 'not representable': 'bad' }

function word(s) {
  return {
    new: t('not published'), changed: t('changed here'), synced: t('in step'), outdated: t('an older version is here'), missing: t('not here'), downloading: t('is being fetched'),
    conflict: t('edited at two places'), damaged: t('damaged'), 'not representable': t('this system cannot have such a name'), unreadable: t('cannot be read'),
  }[s] ?? s
}

// look has the endpoint ask the others for news.
async function look() {
  Object.assign(at, { asking: true, error: null })
  redraw()
  await api('GET', appPath('cloud/files') + '?' + new URLSearchParams({ path: at.path || '/' })).catch(error => { at.error = error })
  at.asking = false
  redraw()
}

function own(f) { return f.path.startsWith(`/users/${mesh().agent.user}/`) }

function actions(f) {
  const here = !['missing', 'downloading', 'not representable'].includes(f.state)
  return h('div', { class: 'actions' },
    ['missing', 'outdated'].includes(f.state) ? button(t('Fetch'), () => confirm(t('Fetch'), f.path, command(ztm(true), 'cloud', 'download', f.path, '-d'), () => post('downloads', { path: f.path })), { class: 'main' }) : null,
    here ? button(t('Save'), () => download(f)) : null,
    own(f) && ['new', 'changed'].includes(f.state) ? button(t('Publish'), () => publish(f)) : null,
    own(f) && f.state !== 'new' ? button(t('Share'), () => share(f)) : null,
    own(f) && f.state !== 'new' ? button(t('Unpublish'), () => confirm(t('Unpublish {path}', f), t('Nobody can fetch it any longer. Copies stay where they are.'), command(ztm(true), 'cloud', 'unpublish', f.path), () => post('unpublish', { path: f.path })), { class: 'danger' }) : null)
}

// post sends a request; results that failed are its failure.
async function post(what, body) {
  const results = await api('POST', appPath('cloud/' + what), body)
  const failed = Array.isArray(results) ? results.filter(r => r.error) : []
  if (failed.length) throw new Error(failed.map(r => `${r.path}: ${r.error}`).slice(0, 5).join('\n'))
}

function publish(f) {
  dialog({
    title: t('Publish'), text: f.path, fields: [readers()],
    command: v => command(ztm(true), 'cloud', 'publish', f.path, v.users && ['--share', list(v.users)]), submit: v => post('publish', { path: f.path, share: list(v.users) }),
  })
}

function readers() { return { name: 'users', label: t('Readers'), hint: t('Users, group:NAME, or * for everybody. Empty: nobody else.') } }

function share(f) {
  dialog({
    title: t('Share'), text: f.path, action: t('Save'),
    fields: [{ name: 'add', label: t('Let read it'), hint: t('Users, or group:NAME.') }, { name: 'remove', label: t('No longer let read it') },
      { name: 'all', label: t('Everybody'), kind: 'choice', value: '', options: [['', t('as it is')], ['on', t('may read it')], ['off', t('may not')]] }],
    command: v => command(ztm(true), 'cloud', 'share', f.path, v.add && ['--add-user', list(v.add)], v.remove && ['--remove-user', list(v.remove)], v.all && ['--all', v.all]),
    submit: v => post('share', { path: f.path, add: list(v.add), remove: list(v.remove), ...v.all ? { all: v.all === 'on' } : {} }),
  })
}

function publishNew() {
  dialog({
    title: t('Publish a file'), action: t('Publish'),
    fields: [{ name: 'file', label: t('File'), kind: 'file', required: true }, { name: 'path', label: t('Path'), hint: t('In your own tree. Empty: its name.') }, readers()],
    command: v => command(ztm(true), 'cloud', 'upload', v.file?.name ?? 'FILE', v.path, v.users && ['--share', list(v.users)]),
    submit: v => upload(v.file, v.path || v.file.name, list(v.users)),
  })
}

// upload streams a file into the tree of the endpoint, which publishes it.
async function upload(file, path, share) {
  const flow = await open(mesh().name, endpoint().id, 'cloud/put')
  try {
    await flow.write(new TextEncoder().encode(JSON.stringify({ path, size: file.size, time: new Date(Math.max(0, file.lastModified) || Date.now()).toISOString(), share }) + '\n'))
    for (let from = 0; from < file.size; from += CHUNK) await flow.write(new Uint8Array(await file.slice(from, from + CHUNK).arrayBuffer()))
    await flow.write(new TextEncoder().encode('+'))
    flow.end()
    const result = JSON.parse(await rest(flow))
    if (result.error) throw new Error(result.error)
  } finally {
    flow.close()
  }
}

// rest is all that a flow still says, as text.
async function rest(flow) {
  const decoder = new TextDecoder()
  let text = ''
  for (let p = await flow.read(); p; p = await flow.read()) text += decoder.decode(p, { stream: true })
  return text
}

// download gives a person a file that is at the endpoint.
async function download(f) {
  Object.assign(at, { error: null, busy: t('Working…') })
  redraw()
  try {
    const flow = await open(mesh().name, endpoint().id, 'cloud/get', { path: f.path })
    const parts = []
    let have = 0
    for (let p = await flow.read(); p; p = await flow.read()) {
      parts.push(p)
      have += p.length
      at.busy = `${f.path}: ${size(have)}`
      redraw()
    }
    flow.close()
    save(f.path.split('/').pop(), parts)
  } catch (error) {
    at.error = error
  }
  at.busy = null
  redraw()
}

function downloads(rows) {
  return table([
    { head: t('Path'), cell: d => (d.current ?? []).join(', ') || '–' },
    { head: t('State'), cell: d => d.failed?.length ? state('bad', d.failed.map(x => `${x.path}: ${x.error}`).slice(0, 3).join('; ')) : d.ended ? state('good', t('done')) : state('busy', d.step || t('is being fetched')) },
    { head: t('Files'), cell: d => `${number(d.done)} / ${number(d.files)}`, number: true },
    { head: t('Size'), cell: d => h('span', null, h('progress', { max: d.bytes || 1, value: d.fetched, 'aria-label': t('Progress') }), ' ', size(d.bytes)) },
    { head: t('Sources'), cell: d => number(d.sources), number: true },
    { head: '', cell: d => d.ended ? null : button(t('Cancel the download'), () => confirm(t('Cancel the download'), t('What has come stays.'), command(ztm(true), 'cloud', 'download', '--cancel', d.id), () => api('DELETE', appPath('cloud/downloads/' + encodeURIComponent(d.id))).then(() => null)), { class: 'danger' }) },
  ], rows, { label: t('Downloads'), key: d => d.id, empty: t('Nothing is being fetched.') })
}

function mirrors(rows) {
  return table([
    { head: t('Path'), cell: m => m.path },
    { head: t('Kept in step'), cell: m => [m.download && t('fetches'), m.upload && t('publishes')].filter(Boolean).join(', ') || '–' },
    { head: t('Files'), cell: m => number(m.files), number: true },
    { head: t('State'), cell: m => m.error ? state('bad', m.error) : m.held?.length ? state('busy', t('{n} deletions wait for you', { n: number(m.held.length) })) : state('good', t('no fault')) },
    { head: '', cell: m => h('div', { class: 'actions' },
      m.held?.length ? button(t('Delete them'), () => confirm(t('Delete them'), m.held.slice(0, 20).join('\n'), command(ztm(true), 'cloud', 'mirror', m.path, '--confirm'), () => post('mirrors', { path: m.path, confirm: true })), { class: 'danger' }) : null,
      button(t('End'), () => confirm(t('End {name}', { name: m.path }), t('The files stay.'), command(ztm(true), 'cloud', 'mirror', m.path, '--download', 'off', '--upload', 'off'), () => post('mirrors', { path: m.path, download: false, upload: false })), { class: 'danger' })) },
  ], rows, { label: t('Mirrors'), key: m => m.path, empty: t('No directory is kept in step.') })
}

function mirrorNew() {
  dialog({
    title: t('Keep a directory in step'), action: t('Save'),
    fields: [{ name: 'path', label: t('Path'), required: true, example: '/users/bob/photos' }, { name: 'download', label: t('Fetch what is published'), kind: 'check', value: true },
      { name: 'upload', label: t('Publish what is here'), kind: 'check', hint: t('Of your own tree alone.') }],
    command: v => command(ztm(true), 'cloud', 'mirror', some(v.path, 'PATH'), '--download', v.download ? 'on' : 'off', '--upload', v.upload ? 'on' : 'off'),
    submit: v => post('mirrors', { path: v.path, download: v.download, upload: v.upload }),
  })
}
