package service

import "strings"

// scm installs the service with the service control manager of Windows. Package daemon runs the
// program under it.
func scm(s Spec) Plan {
	line := make([]string, 0, 8)
	for _, a := range s.Command() {
		line = append(line, windowsWord(a))
	}
	// sc wants the value in a word of its own after the word with the equals sign.
	config := []string{"binPath=", strings.Join(line, " "), "start=", "auto"}
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

// windowsWord quotes a word by the rules by which programs on Windows split their command line.
func windowsWord(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\"") {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for _, r := range word {
		switch r {
		case '\\':
			slashes++
			b.WriteByte('\\')
			continue
		case '"': // backslashes before a quote count double
			b.WriteString(strings.Repeat(`\`, slashes+1))
		}
		slashes = 0
		b.WriteRune(r)
	}
	b.WriteString(strings.Repeat(`\`, slashes) + `"`)
	return b.String()
}
