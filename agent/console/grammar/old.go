package grammar

import "strings"

// replacement says what is typed today for a command or an option of ZTM, the program whose grammar
// this is, or "" if the words are none of its. path are the names of commands, and perhaps of an
// option at the end.
func replacement(path string) string {
	switch path {
	case "port":
		return "ports are tunnels: ztm forward EP PORT:HOST:PORT, or for ever: ztm tunnel open"
	case "users":
		return "see who is in the mesh with: ztm get user; groups are changed by: ztm group add"
	case "attach":
		return "an agent chooses its hubs itself; see them with: ztm get hub"
	case "enable", "disable":
		return "an agent is in a mesh until it leaves: ztm join, ztm leave; the service is: ztm start agent, ztm stop agent"
	case "root":
		return "the first start of a hub writes the root permit: ztm run hub --permit FILE; a new one comes from: ztm rotate root"
	case "ca":
		return "the key of the mesh is in the root permit and not at the hub; to replace it: ztm rotate root"
	case "run hub --ca", "start hub --ca":
		return "the key of the mesh is in the root permit, which --permit writes; a hub that shall sign gets --keep-ca"
	case "try":
		return "join a mesh with: ztm join MESH --as NAME --permit FILE"
	case "publish", "unpublish", "download", "erase":
		return "for files: ztm cloud " + path + " PATH"
	case "log hub":
		return "a hub logs where it runs; what an endpoint has seen of it: ztm log ep"
	case "chat", "llm":
		return "there is no such command; a service of that kind is reached by: ztm tunnel open"
	case "proxy rules --groups":
		return "a group is named among the users: --users group:NAME"
	case "proxy ca", "proxy config --gen-cert":
		return "the proxy does not look into TLS, and has no certificates"
	case "proxy config --set-log", "proxy config --log-address", "proxy config --log-token":
		return "what passes is counted: ztm proxy status, and run agent --metrics"
	case "script --args":
		return "arguments follow at the end, after --"
	case "cloud share --set-all":
		return "for all members: --all on"
	case "config --agent":
		return "an agent is found by its data directory: --data DIR, or ZTM_DATA"
	case "run agent --listen", "start agent --listen":
		return "commands reach the agent by a socket in its data directory: --data DIR"
	}
	if strings.HasPrefix(path, "run ") || strings.HasPrefix(path, "start ") {
		return replacedOption(path)
	}
	return ""
}

// replacedOption is [replacement] for options of hubs and agents.
func replacedOption(path string) string {
	switch {
	case strings.HasSuffix(path, " --pqc-key-exchange"):
		return "key exchange is post-quantum by itself: X25519MLKEM768"
	case strings.HasSuffix(path, " --pqc-signature"):
		return "signatures are Ed25519; key exchange is post-quantum by itself"
	case strings.HasSuffix(path, " --bootstrap"):
		return "another hub starts with a permit of its own: ztm invite --hub"
	}
	return ""
}
