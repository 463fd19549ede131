package web

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestEndpointsAreAskedInTheMeshInWhichTheQuestionBegan: somebody may choose another mesh meanwhile, in
// which the endpoints are not.
func TestEndpointsAreAskedInTheMeshInWhichTheQuestionBegan(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("a JavaScript interpreter is missing: apt-get install nodejs")
	}
	dir, all := t.TempDir(), modules(t)
	for name, text := range map[string]string{
		"package.json": `{"type": "module"}`,
		"ends.js":      all["ends.js"],
		"mesh.js":      all["mesh.js"],
		"agent.js": `export const asked = [], agent = {}
			let first; export const begun = new Promise(r => { first = r })
			let go; const answer = new Promise(r => { go = r }); export { go }
			export function api(method, path) { asked.push(path); first(); return answer }
			export const data = () => ['a', 'b'].map(name => ({ name, agent: { user: 'root' } }))
			export const redraw = () => {}`,
		"dom.js":      `export const h = () => null`,
		"overview.js": `export const key = () => ''`,
		"parts.js":    `export const button = () => null, command = button, line = button, state = button, way = button`,
		"words.js":    `export const ago = () => '', number = ago, size = ago, t = ago`,
		"main.js": `import { asked, begun, go } from './agent.js'
			import { picture } from './ends.js'
			import { chosen } from './mesh.js'
			chosen.mesh = 'a'
			const endpoints = Array.from({ length: 20 }, (_, i) => ({ id: 'e' + i, user: 'root', online: true }))
			picture(endpoints, endpoints[0], null)
			await begun
			chosen.mesh = 'b'
			go({})
			process.on('exit', () => console.log(JSON.stringify(asked)))`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(node, filepath.Join(dir, "main.js")).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var asked []string
	if err := json.Unmarshal(out, &asked); err != nil || len(asked) != 20 {
		t.Fatalf("%d were asked, %v: %s", len(asked), err, out)
	}
	for _, path := range asked {
		if !strings.HasPrefix(path, "/api/meshes/a/") {
			t.Errorf("asked %s", path)
		}
	}
}
