package main

// TOML, as far as front matter needs it: the fields at the top and in tables.

import "strings"

// readTOML sets the fields of TOML. It skips lines that it cannot understand.
func readTOML(block string, into fields) {
	s := valueScanner{
		text:   block,
		isTOML: true,
		fields: into,
	}
	table := "" // the name of the current table
	for !s.atEnd() {
		if s.next() == '[' {
			line := block[s.at:lineEnd(block, s.at)]
			name, _, _ := strings.Cut(line[1:], "]")
			table = strings.Trim(name, ` "'`) // an array of tables keeps a bracket, and is no field
			s.skipLine()
			continue
		}

		key, ok := s.key()
		if !ok {
			s.skipLine()
			continue
		}
		key = nestedKey(table, key)
		values, ok := s.value(key)
		if ok {
			into.set(key, values)
		}
		s.skipLine()
	}
}
