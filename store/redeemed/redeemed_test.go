package redeemed

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"ztm/store"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func open(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.OpenRAM(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestADeviceOfBeforeThereWereCountsHasUsedItsToken(t *testing.T) {
	db, table, now := open(t), NewTable("t"), time.Now()
	inv := identity.Invitation{Nonce: "n", Uses: 1, Admitted: now, Expires: now.Add(time.Hour)}
	err := db.Update(func(tx *store.Tx) error {
		if err := table.rows.Put(tx, inv.Nonce, Use{Key: "first", Expires: unixtime.Of(inv.Expires)}); err != nil {
			return err
		}
		return table.Redeem(tx, inv, "second", 0, unixtime.Of(now))
	})
	if !errors.Is(err, identity.ErrToken) {
		t.Errorf("another device: %v", err)
	}
}

func TestDevicesOfATokenAreRememberedUpToALimit(t *testing.T) {
	db, table, now := open(t), NewTable("t"), time.Now()
	inv := identity.Invitation{Nonce: "n", Uses: 2 * maxKeys, Admitted: now, Expires: now.Add(time.Hour)}
	err := db.Update(func(tx *store.Tx) error {
		for i := range inv.Uses {
			if err := table.Redeem(tx, inv, identity.ID(fmt.Sprint(i)), 0, unixtime.Of(now)); err != nil {
				return err
			}
		}
		u, err := table.Get(tx, inv.Nonce)
		if len(u.More) != maxKeys || u.Used != inv.Uses || !u.By("0") || !u.By(identity.ID(fmt.Sprint(inv.Uses-1))) {
			t.Errorf("%d devices are remembered of %d", len(u.More), u.Used)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
