package cloud

import (
	"os"
	"path/filepath"

	"ztm/apps/cloud/config"
	"ztm/tunnel/answer"
)

// directory returns where the local directory is.
func (a *App) directory() (string, error) {
	c, err := a.settings.Get()
	if err != nil || c.LocalDir != "" {
		return c.LocalDir, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", answer.Errorf(answer.NotFound, "this account has no home directory; name one: ztm cloud config --local-dir DIR")
	}
	return filepath.Join(home, "ztmCloud", a.host.Mesh.Name()), nil
}

// configured puts a change of the configuration in force.
func (a *App) configured(before, after config.Config) {
	a.down.Set(after.LimitDown)
	a.up.Set(after.LimitUp)
	a.moved(before, after)
}

// moved closes the local directory where the configuration has another one.
func (a *App) moved(before, after config.Config) {
	if before.LocalDir == after.LocalDir {
		return
	}
	a.treeMu.Lock()
	defer a.treeMu.Unlock()
	if a.tree != nil {
		a.tree.Close() // work on it fails, and is done again in the new one
		a.tree = nil
	}
}
