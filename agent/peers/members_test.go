package peers

import (
	"crypto/ed25519"
	"testing"
	"time"

	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// authority signs members of a test's mesh.
type authority struct {
	t     *testing.T
	ca    *identity.CA
	trust *identity.Trust
	now   time.Time
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	m := identitytest.New(t, time.Now())
	return &authority{t, m.CA, m.Trust, m.Made}
}

// member signs a certificate for an endpoint; key nil makes a new one.
func (a *authority) member(key ed25519.PublicKey, user string, admitted, now time.Time) identity.Subject {
	a.t.Helper()
	if key == nil {
		private, err := identity.NewKey()
		if err != nil {
			a.t.Fatal(err)
		}
		key = private.Public().(ed25519.PublicKey)
	}
	der, err := a.ca.SignMember(key, user, admitted, now)
	if err != nil {
		a.t.Fatal(err)
	}
	s, err := identity.NewVerifier(a.trust, identity.NewClock()).Inspect(der, identity.RoleMember)
	if err != nil {
		a.t.Fatal(err)
	}
	return s
}

func TestAPeerIsGone(t *testing.T) {
	a := newAuthority(t)
	bob := a.member(nil, "bob", a.now, a.now)
	renewed := a.member(bob.Key, "bob", a.now, a.now.Add(100*24*time.Hour))
	evicted, err := a.trust.Evict(a.ca, "bob", a.now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	invited := a.member(nil, "bob", evicted.Admission("bob", a.now), a.now)
	expired := bob.NotAfter.Add(2 * time.Second)
	for name, tt := range map[string]struct {
		seen  []identity.Subject
		peer  apps.Peer
		trust *identity.Trust
		now   time.Time
		gone  bool
	}{
		"a member stays":                               {[]identity.Subject{bob}, PeerOf(bob), a.trust, a.now, false},
		"whose user was evicted":                       {[]identity.Subject{bob}, PeerOf(bob), evicted, a.now, true},
		"who was forgotten and evicted":                {nil, PeerOf(bob), evicted, a.now, true},
		"the next user of the name stays":              {[]identity.Subject{bob, invited}, PeerOf(invited), evicted, a.now, false},
		"whose certificate expired":                    {[]identity.Subject{bob}, PeerOf(bob), a.trust, expired, true},
		"a member who renewed stays":                   {[]identity.Subject{bob, renewed}, PeerOf(bob), a.trust, expired, false},
		"an old session does not hide the renewal":     {[]identity.Subject{renewed, bob}, PeerOf(bob), a.trust, expired, false},
		"whose endpoint joined as another user":        {[]identity.Subject{bob, a.member(bob.Key, "eve", a.now.Add(time.Second), a.now)}, PeerOf(bob), a.trust, a.now, true},
		"whose endpoint was invited anew":              {[]identity.Subject{bob, a.member(bob.Key, "bob", a.now.Add(time.Second), a.now)}, PeerOf(bob), a.trust, a.now, true},
		"somebody else's new certificate changes none": {[]identity.Subject{bob, a.member(nil, "bob", a.now.Add(time.Second), a.now)}, PeerOf(bob), a.trust, a.now, false},
	} {
		t.Run(name, func(t *testing.T) {
			var ms members
			for _, s := range tt.seen {
				ms.arrived(s)
			}
			if got := ms.gone(tt.trust, tt.now)(tt.peer); got != tt.gone {
				t.Errorf("gone: %v, want %v", got, tt.gone)
			}
		})
	}
}

func TestPeersThatAreRememberedAreBounded(t *testing.T) {
	a := newAuthority(t)
	s := a.member(nil, "bob", a.now, a.now)
	var ms members
	for i := range limits.Members + 10 {
		s.ID = identity.IDOf([]byte{byte(i), byte(i >> 8)})
		ms.arrived(s)
	}
	if len(ms.peers) != limits.Members {
		t.Errorf("%d peers are remembered, want %d", len(ms.peers), limits.Members)
	}
	if got := ms.untilExpiry(s.NotAfter.Add(-time.Hour)); got != time.Hour+time.Second {
		t.Errorf("the next certificate expires in %v, want an hour and a second", got)
	}
}
