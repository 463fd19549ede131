//go:build !linux

package script

import "ztm/apps/process"

// give writes the script to a file: not every interpreter can read one from a descriptor here.
func give(source []byte, with interpreter, a *process.Account) (given, error) {
	return giveFile(source, with.ending, a)
}
