# Says that there are compilers, and what Slicer asks about them: nothing of a scripted module is compiled, so none has to be installed.
foreach(language C CXX)
  set(CMAKE_${language}_COMPILER ${CMAKE_COMMAND})
  set(CMAKE_${language}_COMPILER_FORCED TRUE)
  set(CMAKE_${language}_COMPILER_ID_RUN TRUE)
endforeach()
set(CMAKE_SIZEOF_VOID_P 8)
