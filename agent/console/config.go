package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"ztm/agent/api"
	"ztm/apps"
)

// settings is what `ztm config` keeps: $HOME/.ztm.conf.
type settings struct {
	Data string `json:"data,omitempty"` // directory of the agent
	Mesh string `json:"mesh,omitempty"` // to choose if several are joined
}

func (c *Console) home() (string, error) {
	if h := c.cfg.Getenv("HOME"); h != "" {
		return h, nil
	}
	h, err := os.UserHomeDir()
	if err != nil {
		return "", &apps.HintError{Err: fmt.Errorf("no home directory: %w", err), Hint: "set HOME, or name the data directory with --data"}
	}
	return h, nil
}

func (c *Console) settingsFile() (string, error) {
	h, err := c.home()
	return filepath.Join(h, ".ztm.conf"), err
}

// load reads the settings. A file that is not there is empty.
func (c *Console) load() (settings, error) {
	path, err := c.settingsFile()
	if err != nil {
		return settings{}, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{}, nil
	}
	if err != nil {
		return settings{}, fmt.Errorf("configuration: %w", err)
	}
	var s settings
	if err := json.Unmarshal(b, &s); err != nil {
		return settings{}, &apps.HintError{
			Err:  fmt.Errorf("configuration: %s: %v", path, err),
			Hint: "repair or remove the file",
		}
	}
	return s, nil
}

// save changes the settings that are given.
func (c *Console) save(data, mesh *string) error {
	s, err := c.load()
	if err != nil {
		return err
	}
	if data != nil {
		if s.Data = *data; s.Data != "" {
			if s.Data, err = filepath.Abs(s.Data); err != nil {
				return fmt.Errorf("configuration: %w", err)
			}
		}
	}
	if mesh != nil {
		s.Mesh = *mesh
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	path, err := c.settingsFile()
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil { // settings are often kept with other dotfiles
		path = real
	}
	f, err := CreatePrivate(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	return f.Commit(append(b, '\n'))
}

// warnOfMesh warns of a mesh that the agent has not joined. It may be joined later, and an agent that
// does not run cannot be asked.
func (c *Console) warnOfMesh(ctx context.Context, name string) {
	meshes, err := c.Meshes(ctx)
	if err == nil && !slices.ContainsFunc(meshes, func(m api.Mesh) bool { return m.Name == name }) {
		c.Warn("this agent has not joined a mesh %q", name)
	}
}

// choose settles which agent and which mesh a command line is about: an option wins over the
// environment, that over the settings, those over what is usual. Without a home directory there are
// no settings, and that matters only to what needs the agent, or its directory, where nothing else
// names it: a service often has no home, nor has a check of a policy in a container.
func (c *Console) choose(data string) error {
	var s settings
	data = cmp.Or(data, c.cfg.Getenv("ZTM_DATA"))
	home, missing := c.home()
	if missing == nil {
		var err error
		if s, err = c.load(); err != nil {
			return err
		}
	}
	c.data, c.homeless = cmp.Or(data, s.Data, usualDir("/", os.Geteuid(), home)), nil
	if !filepath.IsAbs(c.data) && data == "" {
		c.data, c.homeless = "", missing
	}
	c.fallback = cmp.Or(c.cfg.Getenv("ZTM_MESH"), s.Mesh)
	return nil
}

// usualDir is where the data are if nobody says otherwise. On OpenWrt that is for root /etc/ztm,
// which survives an upgrade of the firmware. root is "/".
func usualDir(root string, uid int, home string) string {
	if _, err := os.Stat(filepath.Join(root, "etc/openwrt_release")); err == nil && uid == 0 {
		return "/etc/ztm"
	}
	return filepath.Join(home, ".ztm")
}

// showSettings prints what `ztm config` shows: what is in force, wherever it comes from.
func (c *Console) showSettings() error {
	t := &apps.Table{Rows: [][]string{
		{"Data directory:", cmp.Or(c.data, "(none)")},
		{"Default mesh:", cmp.Or(c.fallback, "(none)")},
	}}
	return c.Print(settings{Data: c.data, Mesh: c.fallback}, t)
}
