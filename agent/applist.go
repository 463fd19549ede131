package agent

import (
	"ztm/apps"
	"ztm/apps/tunnel"
)

// Constructor makes an app for one mesh.
type Constructor struct {
	Name string
	New  func(apps.Host) apps.App
}

// appList is every app of this binary.
func appList() []Constructor {
	return []Constructor{
		{"tunnel", tunnel.New},
	}
}
