// Whether a program will load the library that `ringcap run` puts before the system's. Called by that command
// alone, before it becomes the program.
#pragma once

#include <string>
#include <vector>

#include "capture/base/error.h"

namespace ringcap::tools {

// The files that will use libpcap: the program, and dumpcap where the program leaves capturing to it.
std::vector<std::string> programs_of(const std::string& file);

// An error says why the dynamic linker will not look at our variables (set-user-ID, file capabilities, linked
// statically), and what to do.
Result<void> check_program(const std::string& file);

// Whether AppArmor lets the program load the shim and reach engines. An error says which rules its profile
// lacks, and how to add them. "": it does. Else a sentence: the kernel does not say, and what to do if it
// does not.
Result<std::string> confinement(const std::string& file, const std::string& shim);

}  // namespace ringcap::tools
