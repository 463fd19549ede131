package confine

import (
	"crypto/sha256"
	"encoding/binary"
)

// The accounts of apps, where the agent is root: numbers that no system gives to people, services or
// containers. 1879048192 is 0x70000000; systemd leaves what is above 0x6fffffff alone.
const (
	firstAccount = 0x70000000
	accounts     = 0x0fffffff
)

// Account returns the number of the account that an app has, by its mesh and its name. Two apps have
// the same with a chance of 1 in 2^28.
func Account(mesh, app string) uint32 {
	sum := sha256.Sum256([]byte(mesh + "\x00" + app))
	return firstAccount + binary.BigEndian.Uint32(sum[:])%accounts
}
