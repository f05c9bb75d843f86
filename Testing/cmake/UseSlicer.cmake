# include(${Slicer_USE_FILE}): the extension's metadata gets its defaults, the macros for scripted modules and their tests come in.

if(NOT DEFINED EXTENSION_NAME)
  set(EXTENSION_NAME ${PROJECT_NAME})
endif()
if("${EXTENSION_NAME}" MATCHES "^$|^Slicer$|^Project$")
  message(FATAL_ERROR "The extension has no name: call project(<name>) before include(\${Slicer_USE_FILE})")
endif()

set(Slicer_EXTENSION_METADATA DEPENDS HOMEPAGE CONTRIBUTORS CATEGORY ICONURL DESCRIPTION SCREENSHOTURLS ENABLED KEYWORDS)
set(_DEPENDS_default NA)
set(_ENABLED_default 1)
foreach(name IN LISTS Slicer_EXTENSION_METADATA)
  if(NOT DEFINED EXTENSION_${name})
    set(EXTENSION_${name} "${_${name}_default}")
  endif()
endforeach()

include(CTest)

#-----------------------------------------------------------------------------
# Copy the files to the build tree when it is built, install the build tree.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY_SLICER "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_SLICER_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule does not know ${MY_SLICER_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT DEFINED MY_SLICER_NAME)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: NAME is missing")
  endif()
  if(MY_SLICER_WITH_SUBDIR)
    message(FATAL_ERROR "This stand-in does not know WITH_SUBDIR")
  endif()

  set(_copied)
  foreach(_file ${MY_SLICER_SCRIPTS} ${MY_SLICER_RESOURCES})
    if(NOT EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${_file})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: there is no file or folder ${_file}")
    endif()
    set(_target ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_file})
    add_custom_command(
      OUTPUT ${_target}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${_file}
      COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_CURRENT_SOURCE_DIR}/${_file} ${_target}
      )
    list(APPEND _copied ${_target})
  endforeach()
  add_custom_target(Copy${MY_SLICER_NAME}PythonFiles ALL DEPENDS ${_copied})

  install(
    DIRECTORY ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/
    DESTINATION ${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}
    COMPONENT RuntimeLibraries
    USE_SOURCE_PERMISSIONS
    )

  if(BUILD_TESTING AND MY_SLICER_WITH_GENERIC_TESTS)
    slicer_add_python_unittest(SCRIPT qSlicer${MY_SLICER_NAME}ModuleGenericTest.py TESTNAME_PREFIX nomainwindow_ SLICER_ARGS --no-main-window)
  endif()
endmacro()

#-----------------------------------------------------------------------------
# Register a test. Slicer_LAUNCHER_EXECUTABLE is what runs it; without one the test has a name and fails.
macro(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  get_filename_component(test_name ${MY_SCRIPT} NAME_WE)
  add_test(
    NAME py_${MY_TESTNAME_PREFIX}${test_name}
    COMMAND ${Slicer_LAUNCHER_EXECUTABLE} --no-splash --testing ${MY_SLICER_ARGS}
    --additional-module-paths ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}
    --python-code "import slicer.testing\\; slicer.testing.runUnitTest(['${CMAKE_CURRENT_SOURCE_DIR}'], '${test_name}')"
    )
endmacro()
