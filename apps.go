package main

import (
	"ztm/agent/feature"
	kube "ztm/agent/kube/cli"
	"ztm/apps"
	"ztm/apps/builtin"
	cloud "ztm/apps/cloud/cli"
	external "ztm/apps/external/cli"
	file "ztm/apps/file/cli"
	proxy "ztm/apps/proxy/cli"
	"ztm/apps/script"
	"ztm/apps/terminal"
	tunnel "ztm/apps/tunnel/cli"
)

// kinds are the apps of this binary: agent and command line get them from here and know none by
// name.
func kinds() []apps.Kind {
	list := []apps.Kind{tunnel.Kind()}
	if builtin.Proxy {
		list = append(list, proxy.Kind())
	}
	if builtin.Terminal {
		list = append(list, terminal.Kind())
	}
	if builtin.File {
		list = append(list, file.Kind())
	}
	if builtin.Script {
		list = append(list, script.Kind())
	}
	if builtin.Cloud {
		list = append(list, cloud.Kind())
	}
	if feature.Kubernetes {
		list = append(list, kube.Kind())
	}
	if builtin.Apps {
		list = append(list, external.Kind())
	}
	return list
}
