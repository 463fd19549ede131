package state

import (
	"log/slog"
	"testing"
	"time"

	"ztm/store"
	"ztm/tunnel/identity"
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
		now   int64
		ok    bool
	}{
		{"first use", "n1", a, 100, true},
		{"same key", "n1", a, 101, true},
		{"another key", "n1", b, 102, false},
		{"another token", "n2", b, 103, true},
		{"after it has expired, another token", "n3", b, 999, true},
	}
	for _, s := range steps {
		inv := identity.Invitation{Nonce: s.nonce, Uses: 1, Expires: time.Unix(s.now+100, 0)}
		err := st.Redeem(inv, s.key, s.now)
		if (err == nil) != s.ok {
			t.Errorf("%s: %v", s.name, err)
		}
	}
	if got := st.tokens(t); len(got) != 1 || got[0] != "n3" {
		t.Errorf("remembered %q", got)
	}
}

// tokens returns the nonces that are remembered.
func (s *State) tokens(t testing.TB) (nonces []string) {
	t.Helper()
	err := s.db.View(func(tx *store.Tx) (err error) {
		nonces, err = tokenTable.Keys(tx, "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return nonces
}
