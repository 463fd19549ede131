package process

import (
	"fmt"
	"strings"

	"ztm/apps"
	"ztm/tunnel/answer"
)

// Rules states which peers may run programs on an endpoint, and as which account. The zero value
// admits the owner alone, as the agent's own account.
type Rules struct {
	Users       []string   `json:"users,omitempty"`       // who may, beside the endpoint's own user, see [apps.CheckNamed]; sorted
	RunAs       apps.Bytes `json:"runAs,omitempty"`       // the account that programs run as
	MaxSessions int        `json:"maxSessions,omitempty"` // at the same time; 0 is [DefaultMaxSessions]
}

// DefaultMaxSessions is how many programs run for peers at the same time if the owner does not say.
const DefaultMaxSessions = 32

// RulesChange changes [Rules]; what is nil or empty stays as it is.
type RulesChange struct {
	AddUsers    []string    `json:"addUsers,omitempty"`
	RemoveUsers []string    `json:"removeUsers,omitempty"`
	RunAs       *apps.Bytes `json:"runAs,omitempty"`
	MaxSessions *int        `json:"maxSessions,omitempty"`
}

// Apply makes the change, or returns an *[answer.Error] and leaves r in an undefined state.
func (r *Rules) Apply(c RulesChange) error {
	if err := apps.CheckNamed(c.AddUsers); err != nil {
		return err
	}
	var err error
	if r.Users, err = apps.Changed("user", r.Users, c.AddUsers, c.RemoveUsers); err != nil {
		return err
	}
	if c.RunAs != nil {
		if _, err := Lookup(string(*c.RunAs)); err != nil {
			return err
		}
		r.RunAs = *c.RunAs
	}
	if c.MaxSessions != nil {
		if *c.MaxSessions < 0 {
			return answer.Errorf(answer.BadRequest, "the number of sessions cannot be negative")
		}
		r.MaxSessions = *c.MaxSessions
	}
	return nil
}

// Limit returns how many programs may run at the same time.
func (r Rules) Limit() int {
	if r.MaxSessions > 0 {
		return r.MaxSessions
	}
	return DefaultMaxSessions
}

// Admit returns nil if the peer may run programs by the named app, and an *[answer.Error]
// otherwise.
func (r Rules) Admit(self apps.Endpoint, app string, p apps.Peer, names apps.Names) error {
	if p.User != "" && (p.User == self.User || names(p, r.Users)) {
		return nil
	}
	return answer.Errorf(answer.Denied, "user %q may not run programs on %s; its owner can allow it with: ztm ep %s %s config --add-user %s",
		p.User, self.Name, self.Name, app, p.User)
}

// Account returns the account that a program of the peer runs as. wanted is the peer's wish, "" if
// it has none: the endpoint's own user may choose, because it may change the rules as well.
func (r Rules) Account(self apps.Endpoint, p apps.Peer, wanted string) (*Account, error) {
	name := string(r.RunAs)
	if wanted != "" && wanted != name {
		if p.User != self.User {
			return nil, answer.Errorf(answer.Denied, "user %q may not choose the account that programs run as on %s", p.User, self.Name)
		}
		name = wanted
	}
	return Lookup(name)
}

// Describe returns the rules as rows for people.
func (r Rules) Describe() [][]string {
	users, account := "(owner only)", r.RunAs.String()
	if len(r.Users) > 0 {
		users = strings.Join(r.Users, ", ")
	}
	if account == "" {
		account = "(the agent's own)"
	}
	return [][]string{{"Allowed Users", users}, {"Run As", account}, {"Max Sessions", fmt.Sprint(r.Limit())}}
}
