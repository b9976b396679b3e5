package main

// The arguments: a command, or the folder to serve. Settings are environment variables, so a flag that is the name of a
// setting is answered with the line to type instead. The commands help and health are here too.

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// commands are the commands by all their names, without dashes.
var commands = map[string]string{
	"h":       "help",
	"help":    "help",
	"v":       "version",
	"V":       "version",
	"version": "version",
	"health":  "health",
	"check":   "check",
	"reindex": "reindex",
	"serve":   "",
}

// command is the parsed command line.
type command struct {
	name   string // a value of commands; empty: serve
	folder string // overrides DOCS_DIR, unless it is empty
}

// parseCommand reads the arguments. Its error wraps errUsage.
func parseCommand(args []string) (command, error) {
	if asksForHelp(args) {
		return command{name: "help"}, nil
	}
	if advice := settingsAdvice(args); advice != "" {
		return command{}, fmt.Errorf("settings are environment variables: %s; %w", advice, errUsage)
	}
	if len(args) == 0 {
		return command{}, nil
	}
	if i := slices.IndexFunc(args, isUnknownFlag); i >= 0 {
		return command{}, fmt.Errorf("unknown flag %q: settings are environment variables, and a folder needs no flag; "+
			"for example ADDR=127.0.0.1:9000 vitrine ./docs; %w", args[i], errUsage)
	}

	first, rest := args[0], args[1:]
	name, isCommand := commandNamed(first)
	takesFolder := isCommand && (name == "" || name == "check")
	switch {
	case takesFolder && len(rest) == 1:
		folder, err := folderCommand(rest[0])
		folder.name = name
		return folder, err
	case len(rest) > 0:
		return command{}, fmt.Errorf("unknown argument %q: one command or one folder is expected; "+
			"for several folders %s; %w", rest[0], severalFolders(args), errUsage)
	case isCommand:
		return command{name: name}, nil
	}
	return folderCommand(first)
}

// commandNamed returns the command that an argument names, with or without dashes.
func commandNamed(arg string) (name string, ok bool) {
	name, ok = commands[strings.TrimLeft(arg, "-")]
	return name, ok
}

// asksForHelp reports whether the manual is wanted: vitrine help, or a flag for it behind another command.
func asksForHelp(args []string) bool {
	for i, arg := range args {
		name, _ := commandNamed(arg)
		if name == "help" && (i == 0 || strings.HasPrefix(arg, "-")) {
			return true
		}
	}
	return false
}

// isUnknownFlag reports whether an argument looks like a flag and is no command.
func isUnknownFlag(arg string) bool {
	_, isCommand := commandNamed(arg)
	return strings.HasPrefix(arg, "-") && !isCommand
}

// folderCommand returns the command that serves an argument that names a folder, or several as DOCS_DIR does. A missing
// folder is reported later, as one of DOCS_DIR is, if the argument looks like a path.
func folderCommand(arg string) (command, error) {
	_, err := os.Stat(arg) //nolint:gosec // users name a folder of their own
	isFolder := err == nil || strings.ContainsAny(arg, `/\=`) || arg == "."
	switch near := nearCommand(arg); {
	case isFolder:
		return command{folder: arg}, nil
	case near != "":
		return command{}, fmt.Errorf("unknown argument %q: did you mean vitrine %s? %w", arg, near, errUsage)
	}
	return command{}, fmt.Errorf("unknown argument %q: neither a folder nor a command "+
		"(help, version, health, check, reindex); %w", arg, errUsage)
}

// nearCommand returns the command that arg is but for one letter or the case, or "".
func nearCommand(arg string) string {
	lower := strings.ToLower(arg)
	for name := range commands {
		if len(name) > 1 && (lower == name || isOneEditAway(lower, name)) {
			return name
		}
	}
	return ""
}

// severalFolders returns the line that serves all folders in args. If args are something else, it is an example.
func severalFolders(args []string) string {
	var named []string
	for _, arg := range args {
		info, err := os.Stat(arg) //nolint:gosec // users name folders of their own
		if err != nil || !info.IsDir() {
			return "vitrine api=./api,guide=./guide"
		}
		named = append(named, filepath.Base(arg)+"="+arg)
	}

	value := strings.Join(named, ",")
	_, err := parseDocsDir(value)
	if err != nil {
		return "vitrine api=./api,guide=./guide"
	}
	return "vitrine " + shellQuote(value)
}

// settingsAdvice returns the command line that args should have been, if one of them is a setting: --addr :9000,
// -addr=:9000 or ADDR=:9000. It returns "" if none is.
func settingsAdvice(args []string) string {
	var settings, others []string
	for i := 0; i < len(args); i++ {
		v, value, hasValue := settingArgument(args[i])
		if v == nil {
			others = append(others, shellQuote(args[i]))
			continue
		}

		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		if !hasValue && v.takes(next) {
			i++
			value = next
		}
		settings = append(settings, v.name+"="+v.shown(value))
	}

	if len(settings) == 0 {
		return ""
	}
	line := slices.Concat(settings, []string{"vitrine"}, others)
	return "try " + strings.Join(line, " ")
}

// settingArgument returns the setting that an argument names, and the value behind its "=". An argument without a dash
// must be written as the environment variable is.
func settingArgument(arg string) (v *variable, value string, hasValue bool) {
	name, value, hasValue := strings.Cut(arg, "=")
	flag := strings.TrimLeft(name, "-")
	if flag == name {
		if !hasValue || name != strings.ToUpper(name) {
			return nil, "", false
		}
	}

	v = findVariable(settingNamed(settingNames(), flag))
	return v, value, hasValue
}

// takes reports whether the argument behind v's flag is its value. A flag for true or false needs none.
func (v *variable) takes(next string) bool {
	if v.isSwitch() {
		_, err := strconv.ParseBool(next)
		return err == nil
	}
	return next != "" && !strings.HasPrefix(next, "-")
}

// shown returns a value as it is typed in a shell. A value that is missing is replaced by an example, a secret by "…".
func (v *variable) shown(value string) string {
	switch {
	case v.secret:
		return "…"
	case value == "" && v.isSwitch():
		return "true"
	case v.name == "ADDR" || v.name == "ADMIN_ADDR":
		value = completeAddr(value)
	}
	return shellQuote(cmp.Or(value, v.example, v.defaultValue))
}

// completeAddr adds a loopback address to a bare port, and a port to a bare host.
func completeAddr(value string) string {
	_, numberErr := strconv.Atoi(value)
	ip, ipErr := netip.ParseAddr(value)
	isPort := numberErr == nil
	isIP := ipErr == nil
	switch {
	case value == "":
		return ""
	case isPort:
		return "127.0.0.1:" + value
	case isIP:
		return netip.AddrPortFrom(ip, 8080).String()
	case !strings.Contains(value, ":"):
		return value + ":8080"
	}
	return value
}

//go:embed main.go
var manualSource string

// printManual prints the package comment and the settings.
func printManual(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	comment, _, _ := strings.Cut(manualSource, "\npackage main")
	for line := range strings.Lines(comment + "\n") {
		line = strings.TrimPrefix(line, "//")
		line = strings.TrimPrefix(line, " ")
		fmt.Fprint(table, strings.ReplaceAll(line, "\t", "  "))
	}

	for _, v := range variables(new(settings)) {
		fmt.Fprintf(table, "\n  %s\t%s\t%s", v.name, v.defaultValue, v.about)
	}
	fmt.Fprintln(table)
	return table.Flush()
}

// checkHealth asks a running server whether it is ready, prints its answer, and returns an error if it is not ready.
// Docker's HEALTHCHECK uses it because the image has no curl.
func checkHealth(ctx context.Context, cfg *settings, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, readinessURL(cfg.addr), http.NoBody)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if name := cfg.allowedHosts[0]; name != "*" {
		r.Host = name
	}

	r.SetBasicAuth("", cfg.adminToken) // shows causes

	client := http.Client{Transport: &http.Transport{}} // it ignores HTTP_PROXY
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s\n%s", resp.Status, text)
	}

	_, err = stdout.Write(text)
	return err
}

// readinessURL returns the URL of /readyz on addr, HOST:PORT. If addr stands for all addresses, the URL has 127.0.0.1.
func readinessURL(addr string) string {
	return "http://" + localAddress(addr, "127.0.0.1") + "/readyz?verbose"
}

// localAddress returns addr, HOST:PORT, with this name in place of a host that stands for all addresses.
func localAddress(addr, name string) string {
	host, port, _ := net.SplitHostPort(addr)
	if isEveryHost(host) {
		host = name
	}
	return net.JoinHostPort(host, port)
}
