package identity

import "testing"

func TestDeviceKnowsItselfAtAnyTime(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	bob := m.member(t, "bob", start)
	m.evict(t, "bob", start)
	v := NewVerifier(m.trust, NewClock(start.Add(10*year)))
	s := must(v.Inspect(bob.der, RoleMember))(t)
	if s.ID != bob.id || s.User != "bob" || !s.Admitted.Equal(start) {
		t.Errorf("the device is %v", s)
	}
	_, err := v.Inspect(bob.der, RoleHub)
	wantError(t, err, ErrWrongRole, "this is a member's certificate, not a hub's")
	_, err = v.Inspect(other.member(t, "bob", start).der, RoleMember)
	wantError(t, err, ErrWrongMesh, "another mesh")
	_, err = v.Inspect(bob.der[:99], RoleMember)
	wantError(t, err, ErrUntrusted, "certificate: ")
}
