package agent

import (
	"ztm/agent/feature"
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
	list := []Constructor{{"tunnel", tunnel.New}}
	if feature.Proxy {
		list = append(list, Constructor{"proxy", proxy.New})
	}
	if feature.Script {
		list = append(list, Constructor{"script", script.New})
	}
	if feature.Terminal {
		list = append(list, Constructor{"terminal", terminal.New})
	}
	return list
}
