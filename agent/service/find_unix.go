//go:build unix

package service

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// find finds a program in $PATH. exec.LookPath cannot be used: it makes a system call for which
// some versions of Android kill the process.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(cmp.Or(os.Getenv("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin")) {
		path := filepath.Join(dir, name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}
