# Stands in for the CMake package of a built Slicer, so that the extension is configured, built and installed by plain CMake:
#
#   cmake -S . -B BUILD -DSlicer_DIR=Testing/cmake -DCMAKE_TOOLCHAIN_FILE=Testing/cmake/no_compiler.cmake
#   cmake --build BUILD && cmake --install BUILD --prefix INSTALLED
#
# It has what this extension uses and nothing else: same names, same arguments, same refusals, same places of the files. Held against
# Slicer's main branch, 5.12 and 5.10 (CMake/SlicerConfig.cmake.in, UseSlicer.cmake.in, SlicerDirectories.cmake,
# SlicerMacroBuildScriptedModule.cmake, SlicerMacroPythonTesting.cmake, SlicerExtensionGenerateConfig.cmake, SlicerExtensionCPack.cmake,
# Extensions/CMake/SlicerFunctionGenerateExtensionDescription.cmake) and CTK's ctkMacroCompilePythonScript.cmake.
#
# Not here: byte-compiling, repository information (the real description needs a git remote), the launcher, the upload, macOS bundles.

if(NOT DEFINED Slicer_VERSION)
  set(Slicer_VERSION 5.12)
endif()
set(Slicer_USE_PYTHONQT ON)
set(Slicer_REVISION 0)
set(Slicer_OS linux)
set(Slicer_ARCHITECTURE amd64)

set(Slicer_INSTALL_ROOT "./")
set(Slicer_SHARE_DIR share/Slicer-${Slicer_VERSION})
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-${Slicer_VERSION}/qt-scripted-modules)
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR ${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR})

set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/ExtensionGenerateConfig.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake)

# A project without a language does not know the size of a pointer, and Slicer refuses it.
if(NOT "${CMAKE_SIZEOF_VOID_P}" EQUAL 8)
  message(FATAL_ERROR "Slicer is a 64 bit program, ${CMAKE_PROJECT_NAME} has pointers of '${CMAKE_SIZEOF_VOID_P}' bytes; "
    "enable C and C++ in project().")
endif()
