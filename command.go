package main

// The arguments: a command, or the folder to serve. Settings are environment variables, so a flag that is the name of a
// setting is answered with the line to type instead.

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// commands are the commands by all their names, without dashes.
var commands = map[string]string{
	"h":       "help",
	"help":    "help",
	"v":       "version",
	"version": "version",
	"health":  "health",
	"check":   "check",
	"reindex": "reindex",
}

// command is what the arguments ask for.
type command struct {
	name   string // a value of commands; empty: serve
	folder string // overrides DOCS_DIR, unless it is empty
}

// parseCommand reads the arguments. Its error wraps errUsage.
func parseCommand(args []string) (command, error) {
	if advice := settingsAdvice(args); advice != "" {
		return command{}, fmt.Errorf("settings are environment variables: %s; %w", advice, errUsage)
	}
	if len(args) == 0 {
		return command{}, nil
	}

	first, rest := args[0], args[1:]
	name, isCommand := commands[strings.TrimLeft(first, "-")]
	switch {
	case name == "check" && len(rest) == 1:
		folder, err := folderCommand(rest[0])
		folder.name = name
		return folder, err
	case len(rest) > 0:
		return command{}, fmt.Errorf("unknown argument %q: one command or one folder is expected; "+
			"for several folders vitrine api=./api,guide=./guide; %w", rest[0], errUsage)
	case isCommand:
		return command{name: name}, nil
	}
	return folderCommand(first)
}

// folderCommand returns the command that serves an argument that names a folder, or several as DOCS_DIR does. A missing
// folder is reported later, as one of DOCS_DIR is, if the argument looks like a path.
func folderCommand(arg string) (command, error) {
	_, err := os.Stat(arg) //nolint:gosec // users name a folder of their own
	isFolder := err == nil || strings.ContainsAny(arg, `/\=`) || arg == "."
	if arg == "" || strings.HasPrefix(arg, "-") || !isFolder {
		return command{}, fmt.Errorf("unknown argument %q: neither a folder nor a command "+
			"(help, version, health, check, reindex); %w", arg, errUsage)
	}
	return command{folder: arg}, nil
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

	v = findVariable(settingNamed(flag))
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

// isSwitch reports whether v is true or false.
func (v *variable) isSwitch() bool { return v.defaultValue == "false" }

// shown returns a value as it is typed in a shell. A value that is missing is replaced by an example, a secret by "…",
// and a port by a loopback address.
func (v *variable) shown(value string) string {
	_, notNumber := strconv.Atoi(value)
	isAddr := v.name == "ADDR" || v.name == "ADMIN_ADDR"
	switch {
	case v.secret:
		return "…"
	case value == "" && v.isSwitch():
		return "true"
	case isAddr && notNumber == nil:
		return "127.0.0.1:" + value
	}
	return shellQuote(cmp.Or(value, v.example, v.defaultValue))
}

// shellQuote quotes text that a shell would not take as one word.
func shellQuote(text string) string {
	if regexp.MustCompile(`^[\w@%+=:,./-]+$`).MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
