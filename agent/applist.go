package agent

import (
	"ztm/apps"
	"ztm/apps/proxy"
	"ztm/apps/script"
	"ztm/apps/terminal"
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
		{"proxy", proxy.New},
		{"script", script.New},
		{"terminal", terminal.New},
		{"tunnel", tunnel.New},
	}
}
