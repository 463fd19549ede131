package state

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func TestExpiredTokensAreForgottenAndStayRefused(t *testing.T) {
	dir := t.TempDir()
	st, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	a, b := []byte("key a"), []byte("key b")
	steps := []struct {
		name  string
		nonce string
		key   []byte
		now   unixtime.Seconds
		ok    bool
	}{
		{"first use", "n1", a, 100, true},
		{"same key", "n1", a, 101, true},
		{"another key", "n1", b, 102, false},
		{"another token", "n2", b, 103, true},
		{"after it has expired, another token", "n3", b, 999, true},
	}
	for _, s := range steps {
		inv := identity.Invitation{Nonce: s.nonce, Uses: 1, Expires: (s.now + 100).Time()}
		err := st.Redeem(inv, s.key, s.now)
		if (err == nil) != s.ok {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	for nonce, used := range map[string]int{"n1": 0, "n2": 0, "n3": 1} {
		if use, err := st.Token(nonce); err != nil || use.Used != used {
			t.Errorf("%s is remembered as %+v, %v", nonce, use, err)
		}
	}
}

func TestATokenOfBeforeARestoreHasNoUsesLeftAndStaysRevoked(t *testing.T) {
	var st [2]*State // what is restored, and what it takes the place of
	for i := range st {
		var err error
		if st[i], err = Open(t.TempDir(), slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		defer st[i].Close()
	}
	now := time.Now()
	inv := identity.Invitation{Nonce: "n", Uses: 3, Admitted: now, Expires: now.Add(time.Hour)}
	if err := st[0].Redeem(inv, []byte("key a"), unixtime.Of(now)); err != nil {
		t.Fatal(err)
	}
	if err := st[1].Revoke(inv.Nonce, unixtime.Of(inv.Expires), unixtime.Of(now)); err != nil {
		t.Fatal(err)
	}
	if err := mergeRestored(st[0].db, st[1].db, now); err != nil {
		t.Fatal(err)
	}
	if use, err := st[0].Token(inv.Nonce); err != nil || !use.Revoked || use.Used != 1 {
		t.Errorf("after the restore it is %+v, %v", use, err)
	}
	other := identity.Invitation{Nonce: "m", Uses: 3, Admitted: now, Expires: now.Add(time.Hour)}
	if err := st[1].Redeem(other, []byte("key a"), unixtime.Of(now)); err != nil {
		t.Fatal(err)
	}
	if err := mergeRestored(st[1].db, nil, now); err != nil {
		t.Fatal(err)
	}
	if err := st[1].Redeem(other, []byte("key b"), unixtime.Of(now)); !errors.Is(err, identity.ErrToken) {
		t.Errorf("one that may have been used since the backup is redeemed: %v", err)
	}
	if err := st[1].Redeem(other, []byte("key a"), unixtime.Of(now)); err != nil {
		t.Errorf("the device that had it asks again: %v", err)
	}
}
