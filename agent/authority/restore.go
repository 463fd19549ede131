package authority

import (
	"errors"

	"ztm/tunnel/identity"
)

// Over returns a row of a backup as it is to take the place of another one: no eviction is lost that
// the other knows, nor the key of the mesh where it was replaced since the backup.
func (row Row) Over(known Row) Row {
	row.Trust = newerTrust(row, known)
	return withNewerKey(row, known)
}

// newerTrust returns the trust list of two rows that is newer. A list of another mesh does not
// count. Where the two differ it is the one that was in force.
func newerTrust(row, known Row) []byte {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return row.Trust
	}
	next, err := trust.Update(known.Trust)
	if err == nil {
		return next.Document()
	}
	if errors.Is(err, identity.ErrFork) {
		if _, err := identity.ParseTrust([]byte(row.CA), known.Trust); err == nil {
			return known.Trust
		}
	}
	return row.Trust
}

// withNewerKey gives a row that has a CA key the one that signs by its trust list, if the other row has
// it: it may be on no other device. One that was made to be the next is kept as well.
func withNewerKey(row, known Row) Row {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil || row.CAKey == "" {
		return row
	}
	keys := []NextCA{{CA: known.CA, Key: known.CAKey}}
	if known.Next != nil {
		keys = append(keys, *known.Next)
	}
	for _, k := range keys {
		if ca, err := identity.ParseCA([]byte(k.CA), []byte(k.Key)); err == nil && ca.ID() == trust.Newest() {
			row.CA, row.CAKey, row.Next = k.CA, k.Key, nil
		}
	}
	if row.Next == nil && known.Next != nil && row.CA == known.CA {
		row.Next = known.Next
	}
	return row
}
