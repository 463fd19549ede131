package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/apps"
)

func TestTheFilesOfAppsGoWithTheMembership(t *testing.T) {
	m, _ := newTestMesh(t, "bob", time.Now())
	mine, other := apps.Dir(m.agent.config.Data, "demo", "app"), apps.Dir(m.agent.config.Data, "demo2", "app")
	for _, dir := range []string{mine, other} {
		if err := os.MkdirAll(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	go m.run(t.Context())
	if err := m.agent.Leave(t.Context(), "demo"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(mine); !os.IsNotExist(err) {
		t.Errorf("files of the mesh that was left: %v", err)
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("files of another mesh: %v", err)
	}
}
