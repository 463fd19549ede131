package service

import "ztm/tunnel/shellwords"

// scm installs the service with the service control manager of Windows. Package daemon runs the
// program under it.
func scm(s Spec) Plan {
	// sc wants the value in a word of its own after the word with the equals sign.
	config := []string{"binPath=", shellwords.Windows(s.Command()...), "start=", "auto"}
	if s.Account != "" {
		config = append(config, "obj=", s.Account)
	}
	sc := func(words ...string) []string { return append([]string{"sc.exe"}, words...) }
	return Plan{
		System: "windows", Name: s.Name(), Dirs: []string{s.Data},
		Start: []Command{
			try(sc(append([]string{"create", s.Name()}, config...)...)...), // fails if the service exists
			run(sc(append([]string{"config", s.Name()}, config...)...)...),
			run(sc("description", s.Name(), "ztm "+s.Role)...),
			run(sc("failure", s.Name(), "reset=", "86400", "actions=", "restart/5000")...),
			try(sc("stop", s.Name())...),
			run(sc("start", s.Name())...),
		},
		Stop:   []Command{try(sc("stop", s.Name())...), run(sc("config", s.Name(), "start=", "demand")...)},
		Status: run("cmd.exe", "/c", "sc.exe query "+s.Name()+" | find \"RUNNING\""),
		Remove: []Command{run(sc("delete", s.Name())...)},
		Hint:   s.Data + `\` + s.Name() + ".log",
	}
}
