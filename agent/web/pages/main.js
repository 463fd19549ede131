// The page takes the code out of its address, and gets a key for it.
const code = location.hash.slice(1)
history.replaceState(null, '', '/')
const answer = await fetch('/session', { method: 'POST', body: JSON.stringify({ code }) })
const { key, message } = await answer.json()
const meshes = key ? await (await fetch('/api/meshes', { headers: { 'Ztm-Console': key } })).text() : message
document.body.append(meshes)
