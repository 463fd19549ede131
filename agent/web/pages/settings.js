import { agent, api, data, keep, kept, lock, redraw } from './agent.js'
import { h } from './dom.js'
import { meshes } from './mesh.js'
import { join } from './overview.js'
import { button, command, confirm, line, table } from './parts.js'
import { chooseTheme, theme } from './theme.js'
import { chooseLanguage, chosenLanguage, t } from './words.js'

export function settings() {
  const v = data('/api/version')
  return [
    h('section', null, h('h2', null, t('Appearance')),
      h('div', { class: 'bar' },
        h('label', null, 'Language / 语言 ', h('select', { value: chosenLanguage(), onchange: e => chooseLanguage(e.target.value).then(redraw) }, h('option', { value: 'en' }, 'English'), h('option', { value: 'zh' }, '简体中文'))),
        h('label', null, t('Colours'), ' ', h('select', { value: theme(), onchange: e => { chooseTheme(e.target.value); redraw() } },
          h('option', { value: '' }, t('as the system')), h('option', { value: 'light' }, t('light')), h('option', { value: 'dark' }, t('dark')))),
        h('label', null, h('input', { type: 'checkbox', checked: localStorage.getItem('ztm-reader') === '1', onchange: e => { localStorage.setItem('ztm-reader', e.target.checked ? '1' : '0') } }), ' ', t('Terminals for screen readers')))),
    h('section', null, h('h2', null, t('This page')),
      agent.readOnly ? h('p', null, t('It only looks: it was opened with --read-only.')) : null,
      h('p', null, h('label', null, h('input', { type: 'checkbox', checked: kept(), onchange: e => { keep(e.target.checked); redraw() } }), ' ', t('All tabs of this browser stay signed in, until the agent restarts or 12 hours pass without use'))),
      h('div', { class: 'bar' }, h('button', { type: 'button', class: 'danger', onclick: lock }, t('Sign this page out'))), line('ztm console --lock')),
    h('section', null, h('h2', null, t('Meshes')), table([
      { head: t('Mesh'), cell: m => m.name },
      { head: t('As'), cell: m => m.agent.name },
      { head: t('User'), cell: m => m.agent.user },
      { head: t('Hubs'), cell: m => m.hubs.join(', ') },
      { head: '', cell: m => button(t('Leave'), () => confirm(t('Leave {name}', m), t('This device leaves the mesh {name}. Its tunnels there are gone.', m), command('ztm', 'leave', m.name), () => api('DELETE', '/api/meshes/' + encodeURIComponent(m.name)).then(() => null)), { class: 'danger' }) },
    ], meshes() ?? [], { label: t('Meshes'), key: m => m.name }), button(t('Join a mesh'), join)),
    h('section', null, h('h2', null, t('About')), v ? h('dl', null,
      ...[[t('Version'), v.tag], [t('Commit'), v.commit], [t('Platform'), `${v.os}/${v.arch}`], [t('Features'), (v.features ?? []).join(', ')]].map(([a, b]) => [h('dt', null, a), h('dd', null, b || '–')])) : null, line('ztm version')),
  ]
}
