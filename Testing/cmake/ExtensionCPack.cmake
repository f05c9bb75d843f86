# include(${Slicer_EXTENSION_CPACK}): the description that the Extensions Index reads, one "key value" a line, and the package.

if(NOT "${EXTENSION_NAME}" STREQUAL "${PROJECT_NAME}")
  message(FATAL_ERROR "The extension ${EXTENSION_NAME} is not packaged: its project is called ${PROJECT_NAME}")
endif()
foreach(name README LICENSE)
  # without its own, an extension is packaged with Slicer's
  if(NOT EXISTS "${EXTENSION_${name}_FILE}")
    message(FATAL_ERROR "EXTENSION_${name}_FILE: there is no file '${EXTENSION_${name}_FILE}'")
  endif()
endforeach()

set(_description "")
foreach(name IN LISTS Slicer_EXTENSION_METADATA)
  string(TOLOWER ${name} _key)
  string(REPLACE ";" " " _value "${EXTENSION_${name}}")
  string(APPEND _description "${_key} ${_value}\n")
endforeach()
file(WRITE ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext "${_description}")
install(FILES ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext DESTINATION ${Slicer_INSTALL_ROOT}${Slicer_SHARE_DIR})

set(CPACK_MONOLITHIC_INSTALL ON)
set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME ${Slicer_REVISION}-${Slicer_OS}-${Slicer_ARCHITECTURE}-${EXTENSION_NAME})
set(CPACK_PACKAGE_DESCRIPTION_FILE ${EXTENSION_README_FILE})
set(CPACK_RESOURCE_FILE_LICENSE ${EXTENSION_LICENSE_FILE})
include(CPack)
