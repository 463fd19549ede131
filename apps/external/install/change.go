package install

import (
	"ztm/apps"
	"ztm/tunnel/answer"
)

// Change is what the owner changes of an app: what is nil stays.
type Change struct {
	Disabled   *bool    `json:"disabled,omitempty"`
	Unconfined *bool    `json:"unconfined,omitempty"`
	Grant      []string `json:"grant,omitempty"`  // users and groups, see [apps.CheckWho]
	Revoke     []string `json:"revoke,omitempty"` // the same
}

// Change changes who may use an app, and whether it is started.
func (s *Store) Change(id string, c Change) (App, error) {
	if err := s.acquire(id); err != nil {
		return App{}, err
	}
	defer s.release(id)
	a, err := s.Get(id)
	if err != nil {
		return a, err
	}
	if c.Disabled != nil {
		a.Disabled = *c.Disabled
	}
	if c.Unconfined != nil {
		a.Unconfined = *c.Unconfined
	}
	if a.Users, err = users(a.Users, c); err != nil {
		return a, err
	}
	if err := s.save(id, &a); err != nil {
		return a, err
	}
	return s.Get(id)
}

// users returns who may use an app after a change, sorted.
func users(before []string, c Change) ([]string, error) {
	if err := apps.CheckWho(c.Grant); err != nil {
		return nil, err
	}
	after, err := apps.Changed("user", before, c.Grant, c.Revoke)
	if err == nil && len(after) > maxUsers {
		return nil, answer.Errorf(answer.Limit, "more than %d users", maxUsers)
	}
	return after, err
}
