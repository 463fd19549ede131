//go:build unix

package service

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// root reports whether this process may install services of the machine.
func root() bool { return os.Geteuid() == 0 }

// asRoot is the prefix of a command that has to run as root.
const asRoot = "sudo "

// give returns a function that gives a directory to the account.
func give(account string) (func(path string) error, error) {
	u, err := user.Lookup(account)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account, err)
	}
	return func(path string) error { return os.Lchown(path, uid, gid) }, nil
}
