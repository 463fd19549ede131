//go:build linux

package e2e

import (
	"os"
	"testing"
)

// TestRouterProfile: an endpoint that was built without the JavaScript engine says so, and what it has, and runs that.
func TestRouterProfile(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{binary: small})
	own := m.newAgent("ep-own", "root")
	own.joinBy(m.path("root.json"))
	for name, text := range map[string]string{"a.js": "print(6 * 7)\n", "a.sh": "echo $((6 * 7)); exit 5\n"} {
		if err := os.WriteFile(m.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const without = 127
	mistake{args: "script a.js --ep ep-own", status: without,
		want: []string{"the ztm of ep-own has no JavaScript engine; ep-own has: sh, "}}.check(t, m.root.try)
	mistake{args: "script a.sh --with js --ep ep-own", status: without, want: []string{"no JavaScript engine"}}.check(t, m.root.try)
	if r := m.root.try("script", "a.sh", "--ep", "ep-own"); r.status != 5 || r.stdout != "42\n" {
		t.Errorf("a shell script: %v", r)
	}
}
