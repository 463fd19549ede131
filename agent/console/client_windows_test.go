package console

import (
	"os"
	"testing"

	"ztm/agent/api"
)

// leaveSocket leaves in dir what an agent leaves that was killed.
func leaveSocket(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, _, err := api.Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(api.Location(dir))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(api.Location(dir), b, 0o600); err != nil {
		t.Fatal(err)
	}
}
