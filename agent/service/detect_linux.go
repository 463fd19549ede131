package service

import (
	"os"
	"strings"
)

// detect returns the name of the service manager of this machine, or "". Termux comes first: it
// does not use that of Android.
func detect(getenv func(string) string) string {
	if strings.Contains(getenv("PREFIX"), "com.termux") {
		return "termux"
	}
	return detectIn("/")
}

// detectIn looks at the files of a system whose root is at root.
func detectIn(root string) string {
	there := func(path string) bool {
		_, err := os.Stat(root + path)
		return err == nil
	}
	switch {
	case there("run/systemd/system"):
		return "systemd"
	case there("sbin/procd"), there("etc/openwrt_release"):
		return "procd"
	case there("sbin/openrc-run"), there("usr/sbin/openrc-run"):
		return "openrc"
	case there("etc/init.d"):
		return "sysv"
	}
	return ""
}
