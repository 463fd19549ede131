package tokens

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"ztm/agent/authority"
	"ztm/agent/limits"
	"ztm/apps/appstest"
	"ztm/store"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// open opens the tokens of a new database.
func open(t *testing.T) Store {
	t.Helper()
	db, err := store.Open(filepath.Join(t.TempDir(), "agent.db"), nil, store.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return Store{DB: db, Mesh: "demo"}
}

// invitation is one of user bob for a nonce.
func invitation(nonce string, uses int, now time.Time) identity.Invitation {
	return identity.Invitation{User: "bob", Nonce: nonce, Uses: uses, Admitted: now, Expires: now.Add(time.Hour)}
}

func TestOfManyContendersAsManyRedeemATokenAsMay(t *testing.T) {
	m := open(t)
	now := time.Now()
	for _, uses := range []int{1, 5} {
		inv := invitation(fmt.Sprint("nonce", uses), uses, now)
		var mu sync.Mutex
		var winners []identity.ID
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				id := identity.ID(fmt.Sprint("device", i))
				err := m.Redeem(inv, id, now)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					winners = append(winners, id)
				} else if answer.CodeOf(err) != answer.Denied {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(winners) != uses {
			t.Fatalf("%d of 20 redeemed a token for %d", len(winners), uses)
		}
		for _, id := range winners { // whose answer was lost
			if err := m.Redeem(inv, id, now); err != nil {
				t.Errorf("%s asks again: %v", id, err)
			}
		}
	}
}

func TestATokenOfBeforeARestoreIsNotRedeemed(t *testing.T) {
	m := open(t)
	now := time.Now()
	known := invitation("known", 2, now)
	if err := m.Redeem(known, "device1", now); err != nil {
		t.Fatal(err)
	}
	if err := MarkRestored(m.DB, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := m.Redeem(invitation("old", 1, now), "device2", now); answer.CodeOf(err) != answer.Denied {
		t.Errorf("one that may have been used since the backup: %v", err)
	}
	if err := m.Redeem(known, "device2", now); answer.CodeOf(err) != answer.Denied {
		t.Errorf("one with a use left, which may have been used or revoked since the backup: %v", err)
	}
	if err := m.Redeem(known, "device1", now); err != nil {
		t.Errorf("the device that had it asks again: %v", err)
	}
	if err := m.Redeem(invitation("new", 1, now.Add(time.Hour)), "device2", now); err != nil {
		t.Errorf("one that was made since: %v", err)
	}
}

func TestWhatWasRevokedStaysRevokedUnderABackupThatKnowsMoreUses(t *testing.T) {
	current, restored := open(t), open(t)
	now := time.Now()
	inv := invitation("nonce", 2, now)
	if err := current.Revoke(inv.Nonce, inv.Expires); err != nil {
		t.Fatal(err)
	}
	if err := restored.Redeem(inv, "device1", now); err != nil {
		t.Fatal(err)
	}
	if err := Keep(restored.DB, current.DB); err != nil {
		t.Fatal(err)
	}
	if err := restored.Redeem(inv, "device2", now); answer.CodeOf(err) != answer.Denied {
		t.Errorf("it is redeemed: %v", err)
	}
	if err := restored.Redeem(inv, "device1", now); err != nil {
		t.Errorf("the device that had it asks again: %v", err)
	}
}

func TestOpenTokensAreBounded(t *testing.T) {
	m := open(t)
	now := time.Now()
	old := invitation("old", 1, now.Add(-2*time.Hour))
	if err := m.NoteIssued(old, now.Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	err := m.DB.Update(func(tx *store.Tx) error { // at once: each takes a write to disk
		for i := range limits.Tokens - 1 {
			if err := m.putIssued(tx, invitation(fmt.Sprint(i), 1, now)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.NoteIssued(invitation("last", 1, now), now); err != nil {
		t.Fatalf("the last that may be: %v", err)
	}
	if err := m.NoteIssued(invitation("more", 1, now), now); answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more: %v", err)
	}
}

func TestDevicesThatWaitForAPersonAreBounded(t *testing.T) {
	m := open(t)
	now := time.Now()
	ask := func(token, device string) (authority.Nod, error) {
		return m.Ask(invitation(token, 1000, now), identity.ID(device), "ep-"+device, now)
	}
	for i := range limits.ApprovalsOfToken {
		if nod, err := ask("flood", fmt.Sprint("device", i)); err != nil || nod != authority.NoNod {
			t.Fatalf("device %d: %q, %v", i, nod, err)
		}
	}
	if _, err := ask("flood", "one more"); answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more of that token: %v", err)
	}
	if _, err := ask("honest", "honest"); err != nil {
		t.Errorf("one of another token: %v", err)
	}
	if err := m.Answer("honest", authority.Approved); err != nil {
		t.Fatal(err)
	}
	if nod, err := ask("honest", "honest"); err != nil || nod != authority.Approved {
		t.Errorf("once it is approved: %q, %v", nod, err)
	}
	if nod, err := ask("another", "honest"); err != nil || nod != authority.NoNod {
		t.Errorf("approved for another token it is %q, %v", nod, err)
	}
	late := now.Add(2 * time.Hour)
	if _, err := m.Ask(invitation("late", 1, late), "late", "late", late); err != nil {
		t.Errorf("after the others have expired: %v", err)
	}
}

func TestTokensThatOthersMadeAreForgottenOnceTheyHaveExpired(t *testing.T) {
	m := open(t)
	now := time.Now()
	for i := range 10 {
		if err := m.Redeem(invitation(fmt.Sprint("nonce", i), 1, now), identity.ID(fmt.Sprint("device", i)), now); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Hour)
	}
	m.DB.View(func(tx *store.Tx) error {
		if keys, err := issuedTable.Keys(tx, ""); err != nil || len(keys) != 1 {
			t.Errorf("%d tokens are known (%v), of which one can be good", len(keys), err)
		}
		return nil
	})
}
