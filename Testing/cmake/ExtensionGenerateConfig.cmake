# include(${Slicer_EXTENSION_GENERATE_CONFIG}): a package file, so that other extensions can depend on this one.
file(WRITE ${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake "set(${EXTENSION_NAME}_SOURCE_DIR \"${CMAKE_SOURCE_DIR}\")\n")
