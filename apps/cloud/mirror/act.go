package mirror

import (
	"context"
	"errors"
	"path"
)

// act does what a plan says. It goes on after a file that fails, which is among the problems then.
func (m *Keeper) act(ctx context.Context, p Plan) error {
	var publish, fetch, discard []string
	for _, a := range p.Actions {
		var err error
		switch a.Step {
		case Publish, Revive:
			publish = append(publish, a.Path)
		case Withdraw:
			err = m.Cloud.Unpublish(a.Path)
		case Fetch, Aside:
			fetch = append(fetch, a.Path)
		case Adopt:
			err = m.Cloud.Adopt(m.User, a.Path)
		case Discard:
			discard = append(discard, a.Path)
		case Report:
			err = errors.New(a.Reason)
		}
		if err != nil {
			m.Cloud.Note(m.User, a.Path, err)
		}
	}
	m.discard(discard)
	for _, path := range m.damaged {
		if !m.Mode.Down {
			break
		}
		if err := m.Cloud.Mend(m.User, path); err != nil {
			m.Cloud.Note(m.User, path, err)
			continue
		}
		fetch = append(fetch, path)
	}
	if len(publish) > 0 {
		if err := m.Cloud.Publish(ctx, publish); err != nil {
			return err
		}
	}
	if len(fetch) == 0 {
		return nil
	}
	return m.Cloud.Fetch(ctx, m.User, fetch)
}

// discard discards what was deleted elsewhere. Directories that are left with nothing in them go as well.
func (m *Keeper) discard(paths []string) {
	for _, gone := range paths {
		if err := m.Cloud.Discard(m.User, gone); err != nil {
			m.Cloud.Note(m.User, gone, err)
			continue
		}
		for at := path.Dir(gone); at != "." && at != m.Path && m.Cloud.Prune(m.User, at); {
			at = path.Dir(at)
		}
	}
}
