package cloud

import (
	"errors"
	"os"
	"path/filepath"

	"ztm/tunnel/answer"
)

// Config is the configuration of the app.
type Config struct {
	LocalDir string `json:"localDir,omitempty"` // absolute; "" is ztmCloud/MESH in the home directory
	Exec     bool   `json:"exec,omitempty"`     // files that were published so become executable here

	// How fast contents come and go, over all transfers, in bytes a second; zero is no limit.
	LimitDown int64 `json:"limitDown,omitempty"`
	LimitUp   int64 `json:"limitUp,omitempty"`

	// Quota is how many bytes are fetched of what each other user has published now; zero is no limit.
	Quota int64 `json:"quota,omitempty"`
}

// ConfigChange is a change of a [Config]: what is nil stays.
type ConfigChange struct {
	LocalDir *string `json:"localDir,omitempty"`
	Exec     *bool   `json:"exec,omitempty"`

	LimitDown *int64 `json:"limitDown,omitempty"`
	LimitUp   *int64 `json:"limitUp,omitempty"`
	Quota     *int64 `json:"quota,omitempty"`
}

// Apply makes the change.
func (c *Config) Apply(change ConfigChange) error {
	if change.LocalDir != nil {
		c.LocalDir = *change.LocalDir
	}
	if change.Exec != nil {
		c.Exec = *change.Exec
	}
	if change.LimitDown != nil {
		c.LimitDown = *change.LimitDown
	}
	if change.LimitUp != nil {
		c.LimitUp = *change.LimitUp
	}
	if change.Quota != nil {
		c.Quota = *change.Quota
	}
	return nil
}

// minLimit is the lowest speed: below it the other end would take this one for stalled.
const minLimit = 16 << 10

func checkLimit(limit int64) error {
	if limit != 0 && limit < minLimit {
		return answer.Errorf(answer.BadRequest, "a limit is %d bytes a second or more", minLimit)
	}
	return nil
}

func checkConfig(c Config) (Config, error) {
	if err := errors.Join(checkLimit(c.LimitDown), checkLimit(c.LimitUp)); err != nil {
		return c, err
	}
	if c.Quota < 0 {
		return c, answer.Errorf(answer.BadRequest, "a quota of %d bytes", c.Quota)
	}
	if c.LocalDir != "" && !filepath.IsAbs(c.LocalDir) {
		return c, answer.Errorf(answer.BadRequest, "the local directory %q is not absolute", c.LocalDir)
	}
	return c, nil
}

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
func (a *App) configured(before, after Config) {
	a.down.Set(after.LimitDown)
	a.up.Set(after.LimitUp)
	a.moved(before, after)
}

// moved closes the local directory where the configuration has another one.
func (a *App) moved(before, after Config) {
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
