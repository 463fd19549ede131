package known

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// Users are those who have a right to be in a mesh: the users of the endpoints of the directory, and
// those who were admitted or invited by this endpoint. A directory that was made anew has them no
// more, while their certificates and tokens are good. Make them with [Directory.Users].
type Users struct {
	known *Directory
	self  string // the name of this endpoint
	all   map[string]*api.User
}

// Users returns the users of endpoints, one of which, with a name and a certificate, is this one.
// The certificate of a user who was evicted and is a member again says a time that has yet to come:
// when they were admitted is known where they were.
func (k *Directory) Users(eps []apps.Endpoint, own identity.Subject, self string, now time.Time) *Users {
	u := &Users{k, self, map[string]*api.User{}}
	for _, e := range eps {
		d := api.Device{ID: e.ID, Name: e.Name, Admitted: e.Admitted, Until: k.Until(e.ID)}
		if e.Local {
			d.Admitted, d.Until = own.Admitted, own.NotAfter
		}
		if d.Admitted.After(now) {
			d.Admitted = time.Time{}
		}
		one := u.of(e.User)
		one.Endpoints, one.Devices = append(one.Endpoints, e.Name), append(one.Devices, d)
	}
	return u
}

func (u *Users) of(name string) *api.User {
	one := u.all[name]
	if one == nil {
		one = &api.User{Name: name, Endpoints: []string{}}
		u.all[name] = one
	}
	return one
}

// Admitted notes that this endpoint admitted another at a time.
func (u *Users) Admitted(id identity.ID, user string, at time.Time) {
	one := u.of(user)
	i := slices.IndexFunc(one.Devices, func(d api.Device) bool { return d.ID == id })
	if i < 0 {
		one.Devices = append(one.Devices, api.Device{ID: id, Name: u.known.NameOf(id), Admitted: at, Until: u.known.Until(id)})
		i = len(one.Devices) - 1
	}
	one.Devices[i].By = u.self
	if one.Devices[i].Admitted.IsZero() {
		one.Devices[i].Admitted = at
	}
}

// Invited notes that a token for a user is open until a time.
func (u *Users) Invited(user string, until time.Time) {
	if one := u.of(user); until.After(one.Invited) {
		one.Invited = until
	}
}

// List lists the users by name, and the devices of each.
func (u *Users) List() []api.User {
	out := []api.User{}
	for _, name := range slices.Sorted(maps.Keys(u.all)) {
		one := *u.all[name]
		slices.SortFunc(one.Devices, func(a, b api.Device) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
		out = append(out, one)
	}
	return out
}
